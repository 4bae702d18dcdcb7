# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Classes by the values of a field of a vector layer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images.notices import say_once
from .errors import LabelError
from .masks import IGNORED
from .vectors import check_fields, read_attributes


class FieldClasses:
    """Classes of the polygons of a layer; see :class:`~.layers.LabelLayer`.

    Attributes:
        classes: Names of the classes.
        background: Index of the class of ground without a polygon, or 255.
    """

    def __init__(
        self,
        path: str,
        classes: Sequence[str] | None,
        label_map: Mapping[Any, int | str],
        ignore: Sequence[Any],
        field: str | None,
        layer: str | None,
        background: int | str | None = None,
    ) -> None:
        self.path, self.field, self.layer = path, field, layer
        values = [Path(path).stem]
        if field is None:
            check_fields(path, [], layer)
            if label_map or ignore:
                raise LabelError(
                    f'{path}: label_map and ignore are about the values of a field; '
                    'name it (field=...)'
                )
        else:
            found = _plain_values(read_attributes(path, [field], layer)[field])
            values = sorted(set(found) - {None}, key=_sorting)
            unnamed = found.count(None)
            if unnamed:
                say_once(
                    f'polygons without class in {path}',
                    f'{path}: {unnamed} features have no {field}, so no class: ground '
                    'under them is ignored, and of objects they are left out',
                )
            label_map = {self._stored(k, values): c for k, c in label_map.items()}
            ignore = [self._stored(value, values) for value in ignore]
        kept = [value for value in values if value not in ignore]
        meant = {value: label_map.get(value, value) for value in kept}
        if classes is None:
            named = [v for v, name in meant.items() if v == name or name != IGNORED]
            names = list(dict.fromkeys(str(meant[value]) for value in named))
            if isinstance(background, str) and background not in names:
                names.insert(0, background)
            classes = names
        self.classes = tuple(classes)
        check_names(path, self.classes)
        self.background = IGNORED
        if background is not None:
            self.background = class_index(path, 'background', background, self.classes)
        if field is None:
            meant = {values[0]: self._only_class(values[0])}
        self._indices = {
            value: class_index(path, f'{field}={value}', name, self.classes, value)
            for value, name in meant.items()
        }

    def _stored(self, named: Any, values: Sequence[Any]) -> Any:
        """The value of the field that an option names: 10 or '10' of either type."""
        for value in values:
            if str(value) == str(_plain(named)):
                return value
        listed = ', '.join(map(str, values[:10])) + ', ...' * (len(values) > 10)
        say_once(
            f'value {named!r} of {self.path}',
            f'{self.path}: label_map or ignore names {named!r}, but {self.field} has '
            f'no such value; it has {listed}',
        )
        return named

    def _only_class(self, name: str) -> int | str:
        others = [i for i in range(len(self.classes)) if i != self.background]
        if len(others) == 1:
            return others[0]
        if name in self.classes:
            return name
        raise LabelError(
            f'{self.path}: which of the classes {", ".join(self.classes)} its polygons '
            'are is not said; name the field that holds the class (field=...)'
        )

    def indices(self, frame: Any) -> NDArray[np.uint8]:
        """The class of each feature, or 255."""
        if self.field is None:
            (index,) = self._indices.values()
            return np.full(len(frame), index, np.uint8)
        values = _plain_values(frame[self.field])
        return np.array([self._indices.get(v, IGNORED) for v in values], np.uint8)


def class_index(
    path: str, what: str, meant: Any, classes: Sequence[str], value: Any = None
) -> int:
    """The index of a class by its name or, if no class is called so, by its index.

    Args:
        path: Of the labels.
        what: What stands for the class.
        meant: Its name or index.
        classes: Names of all.
        value: The stored value that stands for it, if it is one.

    Raises:
        LabelError: If it is neither.
    """
    if str(meant) in classes:
        return list(classes).index(str(meant))
    if isinstance(meant, int) and (0 <= meant < len(classes) or meant == IGNORED):
        return meant
    hint = ''
    if value is not None:
        hint = (
            f'. Say what it means: label_map={{{value!r}: CLASS, ...}} '
            f'(--label-map {value}=CLASS), or ignore=[{value!r}, ...] (--ignore)'
        )
    raise LabelError(
        f'{path}: {what} stands for {meant!r}, which is none of the {len(classes)} '
        f'classes ({", ".join(classes)}) and no index of one{hint}'
    )


def check_names(path: str, classes: Sequence[str]) -> None:
    """Refuse names that occur twice, and more than a mask has values but 255.

    Raises:
        LabelError: If one does, or there are more than 255.
    """
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise LabelError(
            f'{path}: classes has {", ".join(map(repr, twice))} more than once; give '
            'each class a name of its own (label_map joins values to one class)'
        )
    if len(classes) > IGNORED:
        raise LabelError(
            f'{path}: has {len(classes)} classes ({", ".join(classes[:3])}, ...), more '
            f'than {IGNORED}; is it the right field? Join classes by label_map'
        )


def _plain_values(column: Any) -> list[Any]:
    """The values of a field, None where there is none."""
    return [
        None if missing else _plain(value)
        for value, missing in zip(column, column.isna(), strict=True)
    ]


def _plain(value: Any) -> Any:
    """A value as Python writes it; whole numbers as such.

    Blanks at the ends of a text, which some formats cut and others do not, say nothing,
    nor does a text of nothing else, for which it is None.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        return value.strip() or None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sorting(value: Any) -> tuple[bool, Any]:
    is_text = isinstance(value, str)
    return is_text, value
