# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the windowed data sets share: scenes, the labels on them, the windows."""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.logging import print_log
from numpy.typing import NDArray

from ...images import (
    ImageFile,
    Reading,
    Window,
    named_images,
    say_if_offsets_differ,
    without_masks,
)
from ...images.image_file import held_open
from ...images.names import beside
from ...images.notices import say_once
from ...labels.errors import LabelError
from ...labels.lists import read_list
from ...labels.masks import IGNORED
from ...labels.recent import Recent
from ...labels.vectors import Area
from .grid import grid_windows

#: What ``labels`` of a data set are: a file, or a dict of it and how it is read.
Labels = str | Mapping[str, Any]


def find_scenes(data_root: str, names: str | Sequence[str]) -> list[str]:
    """Scenes by their names.

    Args:
        data_root: Folder that names are relative to.
        names: Files, folders, patterns; or a list of such, one a line (``*.txt``).

    Returns:
        One name for each scene, at least one, in the order given.

    Raises:
        FileNotFoundError: If there is none.
    """
    found: list[str] = []
    for name in [names] if isinstance(names, str) else names:
        path = join(data_root, name)
        if path.endswith('.txt'):
            inside = [join(data_root, entry) for _, entry in read_list(path)]
            found += map(str, named_images(inside))
        else:
            found += map(str, named_images([path]))
    if not found:
        raise FileNotFoundError('images=[] names no scene; name files or folders')
    return list(dict.fromkeys(found))


def join(root: str, name: str) -> str:
    """A name below a folder; addresses (``s3://...``) stay as they are."""
    return beside(os.path.expanduser(root), os.path.expanduser(name))


class LayersOfScenes:
    """The labels of scenes: one layer for all, or a file for each.

    Args:
        kind: What reads a layer: ``LabelLayer`` or ``BoxLayer``.
        labels: The file, or a dict with its ``path`` and other arguments of the
            layer. A path with ``{stem}`` in it stands for a file for each scene,
            whose name without ending takes its place.
        data_root: Folder that the path is relative to.
        scenes: Names of the scenes.

    Raises:
        LabelError: If there is no path, or files for each scene differ in their
            classes.
    """

    def __init__(
        self, kind: type[Any], labels: Labels, data_root: str, scenes: Sequence[str]
    ) -> None:
        self._kind = kind
        self._options = {'path': labels} if isinstance(labels, str) else dict(labels)
        if not self._options.get('path'):
            raise LabelError(f"labels={labels} names no file: labels=dict(path='...')")
        self.path = join(data_root, str(self._options.pop('path')))
        unknown = re.search(r'{(?!stem})\w*}', self.path)
        if unknown and not os.path.exists(self.path):
            raise LabelError(
                f'labels={self.path}: {unknown[0]} stands for nothing; {{stem}} is the '
                'name of each scene without its ending'
            )
        known = list(inspect.signature(kind).parameters)
        for name in set(self._options) - set(known):
            close = difflib.get_close_matches(name, known, 1)
            raise LabelError(
                f'labels has the key {name!r}; '
                + (f'did you mean {close[0]!r}? ' if close else '')
                + f'It has {", ".join(known)}'
            )
        self._first = kind(self._path_of(scenes[0]), **self._options)
        # Of many files a process can hold few open.
        self._others: Recent[Any] = Recent()
        self.classes = self._first.classes
        self.palette = getattr(self._first, 'palette', None)

    def _path_of(self, scene: str) -> str:
        return self.path.replace('{stem}', Path(scene).stem)

    def of(self, scene: str) -> Any:
        """The layer that lies on a scene."""
        path = self._path_of(scene)
        if path == self._first.path:
            return self._first
        return self._others.get(path, lambda: self._make(path))

    def _make(self, path: str) -> Any:
        layer = self._kind(path, **self._options)
        if layer.classes != self.classes:
            raise LabelError(
                f'{path} has the classes {", ".join(layer.classes)}, but '
                f'{self._first.path} has {", ".join(self.classes)}; name those of all '
                'files: labels=dict(classes=[...])'
            )
        return layer


class LabelledScenes:
    """Scenes, the labels that lie on them, and the windows of both.

    Args:
        kind: What reads the labels.
        images: See :func:`find_scenes`.
        labels: See :class:`LayersOfScenes`.
        window: Side of the windows in pixels.
        overlap: Pixels that neighbours share.
        aoi: Vector layer of polygons in which windows lie; labels outside of them are
            ignored. None for everywhere.
        data_root: Folder that all names are relative to.
        reading: How scenes are read, which decides their pixels.

    Raises:
        ValueError: If window or overlap is out of range.
    """

    def __init__(
        self,
        kind: type[Any],
        images: str | Sequence[str],
        labels: Labels,
        window: int,
        overlap: int,
        aoi: str | None,
        data_root: str,
        reading: Reading,
    ) -> None:
        if window < 1 or not 0 <= overlap < window:
            raise ValueError(
                f'window={window} must be at least 1, and overlap={overlap} at least 0 '
                'and smaller than it'
            )
        self.size, self.overlap, self.reading = window, overlap, reading
        self.names = without_masks(find_scenes(data_root, images), reading.quality)
        say_if_offsets_differ(self.names)
        self.layers = LayersOfScenes(kind, labels, data_root, self.names)
        self.area = None if aoi is None else Area(join(data_root, aoi))

    def open(self, scene: str) -> ImageFile:
        """A scene on the pixels that are read; it is not to be closed."""
        return held_open(scene, self.reading)

    def windows(self) -> dict[str, list[tuple[Window, Window]]]:
        """Lay the grids of windows.

        Returns:
            Windows, each with the rectangle in which it may be moved, by scene, of
            scenes that have any.

        Raises:
            LabelError: If no scene lies where the labels are, or none has room for a
                window in the area.
        """
        apart, outside, found = [], [], {}
        for scene in self.names:
            image = self.open(scene)
            if not self.layers.of(scene).overlaps(image):
                apart.append(scene)
                continue
            windows = list(grid_windows(image, self.size, self.overlap, self.area))
            if windows:
                found[scene] = windows
            else:
                outside.append(scene)
        count = len(self.names)
        _say_or_refuse(apart, count, f'lie apart from the labels {self.layers.path}')
        _say_or_refuse(
            outside,
            count - len(apart),
            f'have no room for a window of {self.size} pixels{self._within}',
        )
        return found

    def samples(
        self, labels_of: Callable[[str, Window], dict[str, Any] | None]
    ) -> list[dict[str, Any]]:
        """Find the windows that have labels.

        Args:
            labels_of: What is known of the labels of a window of a scene; None leaves
                the window out.

        Returns:
            This, with the scene as ``img_path``, the ``window``, and the ``bounds``
            within which it may be moved; scene by scene.

        Raises:
            LabelError: As :meth:`windows`, or if no window has labels.
        """
        windows = self.windows()
        count = sum(map(len, windows.values()))
        print_log(
            f'{self.layers.path}: reading the labels of {count} windows of '
            f'{len(windows)} scenes{self._within}',
            'current',
        )
        found = [
            dict(img_path=scene, window=window, bounds=bounds, **labels)
            for scene, placed in windows.items()
            for window, bounds in placed
            if (labels := labels_of(scene, window)) is not None
        ]
        if not found:
            raise self.nothing_labelled(count)
        return found

    def nothing_labelled(self, count: int) -> LabelError:
        """The error for so many windows without labels."""
        return LabelError(
            f'none of the {count} windows of {self.size} x {self.size} pixels has a '
            f'label of {self.layers.path}{self._within}: all of their pixels are '
            'ignored or without data. Is it the right file, and do ignore, label_map '
            'and background of the labels say what its values mean?'
        )

    @property
    def _within(self) -> str:
        return '' if self.area is None else f' within {self.area.path}'

    def mask(self, scene: str, window: Window) -> NDArray[np.uint8]:
        """Classes of the pixels of a window, 255 outside the area."""
        labels = self.layers.of(scene).window(self.open(scene), window)
        labels[~self.inside(scene, window)] = IGNORED
        return labels

    def inside(self, scene: str, window: Window) -> NDArray[np.bool_]:
        """Which pixels of a window lie in the area, (h, w)."""
        place = self.open(scene).place
        if self.area is None or place is None:
            return np.ones(window[2:], bool)
        return self.area.mask(place, window)

    def has_data(self, scene: str, window: Window) -> bool:
        """Whether each band of a window holds data somewhere."""
        valid = self.open(scene).read(self.reading, window).valid
        return valid is None or bool(valid.any(axis=(0, 1)).all())

    def __deepcopy__(self, memo: Any) -> 'LabelledScenes':
        # Test-time augmentation copies all that it is given.
        return self


def _say_or_refuse(scenes: Sequence[str], count: int, fault: str) -> None:
    if not scenes:
        return
    if len(scenes) == count:
        raise LabelError(
            f'all scenes, {count}, first {scenes[0]}, {fault}; check both, and their '
            'reference systems'
        )
    say_once(
        fault,
        f'{len(scenes)} of {count} scenes {fault} and are left out, first {scenes[0]}',
    )


def reading_of(pipeline: Iterable[Any]) -> Reading:
    """How the loader of a pipeline reads images.

    Args:
        pipeline: Transforms, built or as dicts.

    Raises:
        ValueError: If none of them loads images as this package does.
    """
    for step in Compose(list(pipeline)).transforms:
        reading = getattr(step, 'reading', None)
        if isinstance(reading, Reading):
            return reading
    raise ValueError(
        "the pipeline of a windowed data set begins with dict(type='LoadImagery', ...) "
        'or, of two dates, LoadImagePair: they read windows'
    )
