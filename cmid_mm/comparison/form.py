# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the parts of the description of a comparison have in common."""

import difflib
import math
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

#: Names of files that a cell has besides those of its tasks.
_RESERVED = ('pretraining', 'record')


class SpecError(ValueError):
    """A comparison that cannot be run as it is written."""


def refuse(source: str | Path, faults: Iterable[str]) -> None:
    """Tell all faults of a file at once, if there are any.

    Args:
        source: The file.
        faults: What is wrong, each beginning with the key in that file.

    Raises:
        SpecError: If there is a fault.
    """
    found = list(dict.fromkeys(faults))
    if len(found) == 1:
        raise SpecError(f'{source}: {found[0]}')
    if found:
        lines = ''.join(f'\n  {fault}' for fault in found)
        raise SpecError(f'{source} has {len(found)} faults:{lines}')


def unknown(name: object, known: Iterable[object]) -> str:
    """Hint beside a name that is not among those that are known."""
    names = {str(entry).lower(): str(entry) for entry in known}
    close = difflib.get_close_matches(str(name).lower(), names, 1)
    if close:
        return f'did you mean {names[close[0]]!r}?'
    return f'there are {", ".join(sorted(names.values())) or "none"}'


def _folder_name(name: str) -> str:
    if not re.fullmatch(r'\w[\w.-]*', name):
        raise ValueError(
            'names a folder: use letters, digits, ".", "-" and "_" only, with a letter '
            'or digit first, and "label" for what is shown'
        )
    return name


def _task_name(name: str) -> str:
    if name in _RESERVED:
        raise ValueError('is taken; give the task another name')
    return _folder_name(name)


def _by_backbone(value: Any) -> str | dict[str, str]:
    values = value.items() if isinstance(value, dict) else [('', value)]
    texts = [isinstance(part, str) for pair in values for part in pair]
    if not texts or not all(texts):
        raise ValueError('must be a file, or a mapping from backbones to files')
    return value


def _number(value: Any) -> int | float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
    ):
        raise ValueError(f'must be a finite number, got {value!r}')
    return value


def _option(value: Any) -> Any:
    """A value that a config can hold."""
    parts: Collection[Any] = ()
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list):
        parts = value
    elif value == 'None':
        raise ValueError("is text in YAML; write null for Python's")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError('must be a finite number')
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(
            'must be text, a number, true, false, null, a list or a mapping, got '
            f'{value!r}'
        )
    for part in parts:
        _option(part)
    return value


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


Name = Annotated[str, AfterValidator(_folder_name)]
TaskName = Annotated[str, AfterValidator(_task_name)]
Number = Annotated[float, PlainValidator(_number)]
PositiveNumber = Annotated[Number, Field(gt=0)]
Positive = Annotated[int, Field(ge=1)]

#: Values by name of the backbone, or one for all, in which ``{backbone}`` stands for
#: that name, and in configs of pre-trainings ``{data}`` for that of the data set.
ByBackbone = Annotated[str | dict[str, str], PlainValidator(_by_backbone)]

#: Config options by dotted key, such as ``model.backbone.depth``.
Options = Annotated[
    dict[str, Annotated[Any, AfterValidator(_option)]], BeforeValidator(_or_empty)
]


class Section(BaseModel):
    """A part of the file. A key without a value counts as not given."""

    model_config = ConfigDict(extra='forbid', frozen=True, strict=True)

    @model_validator(mode='before')
    @classmethod
    def _leave_out_empty(cls, content: Any) -> Any:
        if isinstance(content, dict):
            return {key: value for key, value in content.items() if value is not None}
        return _or_empty(content)
