# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Unlabelled windows of scenes, drawn anew in every epoch."""

import difflib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from mmengine.dataset.base_dataset import force_full_init
from mmengine.registry import DATASETS

from ..images import ImageFile, Place, Reading, UnreadableImageError, read_header
from ..labels.errors import LabelError
from ..labels.lists import read_list
from ..labels.vectors import Area, placed
from ..ranges import Count, Share
from .imagery import ImageryDataset, TooManyUnreadableError
from .windows import RandomWindows

#: Windows that are drawn for one sample before it is given up.
_DRAWS = 1000
#: Headers that are read at the same time: remote files answer late.
_THREADS = 8


class NoWindowError(ValueError):
    """No window has enough valid pixels."""


@DATASETS.register_module()
class SceneWindows(ImageryDataset):
    """Windows of scenes without labels, drawn anew in every epoch, for pre-training.

    A window is drawn from the valid area of all scenes, at any position: scenes by
    their area, and what holds too little data is drawn again. It is a function of the
    sample's ``key`` alone, as its augmentation is, hence the same for any number of
    workers and in a resumed run, and another one in every epoch. A scene that cannot
    be read is reported once, and drawn no more.

    Only the headers of the scenes are read at the start. Scenes smaller than a window
    are taken whole.

    Args:
        data_root: As of :class:`ImageryDataset`.
        ann_file: Likewise. A weight may follow behind a tab.
        pipeline: Likewise.
        tile_size: Side of the windows, in pixels of the distance on the ground at which
            the pipeline loads them. Defaults to 256.
        per_epoch: Windows of an epoch. Defaults to None, as many as would cover the
            area of all scenes once.
        min_valid: Share of the pixels of a window (0-1) that hold data in all bands.
            Defaults to 0.5.
        aoi: Vector layer of polygons, absolute or relative to ``data_root``, in any
            reference system: only windows whose centre lies in one are drawn, shifted
            inwards at the edges of a scene. Defaults to None, everywhere.
        weights: How often a scene is drawn, per area, in comparison with others, by
            its path relative to ``data_root``, or by a pattern of paths as in a shell;
            the first that matches counts, before weights of ``ann_file``. Defaults to
            None, all alike (1).
        max_unreadable: As of :class:`ImageryDataset`.
        indices: Subset of the scenes.
        serialize_data: As of :class:`ImageryDataset`.
        lazy_init: Likewise.

    Raises:
        FileNotFoundError: If the folder, the list, a listed file or any scene is
            missing, or the vector layer.
        LabelError: If polygons are given that cannot be read or reach no scene, or a
            scene is not georeferenced.
        ValueError: If a setting is out of range, or a weight is of an unknown scene.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        pipeline: Sequence[dict[str, Any] | Callable[..., Any]] = (),
        tile_size: Count = 256,
        per_epoch: Count | None = None,
        min_valid: Share = 0.5,
        aoi: str | None = None,
        weights: Mapping[str, float] | None = None,
        max_unreadable: float = 0.01,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        lazy_init: bool = False,
    ) -> None:
        if per_epoch is not None and per_epoch < 1:
            raise ValueError(f'SceneWindows: per_epoch must be >= 1, got {per_epoch}')
        if not 0 <= min_valid <= 1:
            raise ValueError(
                f'SceneWindows: min_valid is a share in 0-1, got {min_valid}'
            )
        self.per_epoch = per_epoch
        self.min_valid = min_valid
        self.aoi = aoi
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            _check_weight(weight, f'SceneWindows: weights[{name!r}]')
        super().__init__(
            data_root,
            ann_file,
            pipeline,
            tile_size,
            max_unreadable=max_unreadable,
            indices=indices,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
        )

    # -- Finding the scenes --------------------------------------------------------

    def full_init(self) -> None:
        """Find the scenes and read their headers."""
        if self._fully_initialized:
            return
        super().full_init()
        # Counted by all workers of this process.
        self._redrawn = torch.zeros(1, dtype=torch.int64).share_memory_()
        scenes = [self.get_data_info(i) for i in range(self.num_scenes)]
        paths = [scene['img_path'] for scene in scenes]
        found = _look(paths, self.reading, self.aoi is not None)
        shapes, places = [], []
        for scene, result in zip(scenes, found, strict=True):
            if isinstance(result, UnreadableImageError):
                self._record(scene, result)
                result = (0, 0), None
            shapes.append(result[0])
            places.append(result[1])
        if not any(map(any, shapes)):
            raise TooManyUnreadableError(
                f'no scene of {self.ann_file or self.data_root!r} can be read; '
                f'{paths[0]}: {found[0]}'
            )
        self._drawn = RandomWindows(
            shapes,
            self.tile_size or 0,
            [scene['weight'] for scene in scenes],
            None if self.aoi is None else self._polygons(scenes, shapes, places),
        )

    def _polygons(
        self,
        scenes: Sequence[dict[str, Any]],
        shapes: Sequence[tuple[int, int]],
        places: Sequence[Place | None],
    ) -> list[list[Any]]:
        """The polygons of each scene, in its pixels."""
        area = Area(os.path.join(self.data_root, os.path.expanduser(self.aoi or '')))
        polygons = [
            _inside(area, placed(area.path, place, scene['img_path']), shape)
            if min(shape) > 0
            else []
            for scene, shape, place in zip(scenes, shapes, places, strict=True)
        ]
        if not any(polygons):
            raise LabelError(
                f'{area.path} reaches none of the {len(scenes)} scenes of '
                f'{self.ann_file or self.data_root!r}, such as '
                f'{scenes[0]["img_path"]} ({places[0]}); check where both lie'
            )
        return polygons

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the scenes: ``img_path`` and ``weight``."""
        paths = self._paths()
        weights = [1.0] * len(paths)
        if self.ann_file:
            weights = [weight for _, weight in self._entries()]
        for number, weight in _chosen(self.weights, paths, self.data_root).items():
            weights[number] = weight
        if not any(weights):
            raise ValueError('SceneWindows: all scenes have the weight 0')
        return [
            {'img_path': path, 'weight': weight}
            for path, weight in zip(paths, weights, strict=True)
        ]

    def _listed_names(self) -> list[str]:
        return [name for name, _ in self._entries()]

    def _entries(self) -> Iterator[tuple[str, float]]:
        """Names and weights of the list."""
        for line, entry in read_list(self.ann_file):
            name, tab, text = entry.partition('\t')
            weight = 1.0
            if tab:
                where = f'{self.ann_file}, line {line}: the weight behind the tab'
                try:
                    weight = float(text)
                except ValueError:
                    raise ValueError(f'{where} is no number: {text!r}') from None
                _check_weight(weight, where)
            yield name.rstrip(), weight

    @property
    @force_full_init
    def num_scenes(self) -> int:
        """Number of scenes."""
        return len(self._state)

    @force_full_init
    def __len__(self) -> int:
        """Windows of an epoch."""
        if self.per_epoch is not None:
            return self.per_epoch
        return max(1, round(self._drawn.area / self._drawn.size**2))

    # -- Drawing windows -----------------------------------------------------------

    def _candidates(self, key: int) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(key)
        names: dict[str, None] = {}
        for _ in range(_DRAWS):
            scene, window = self._drawn.draw(rng)
            if self._is_usable(scene):
                info = self.get_data_info(scene)
                names[info['img_path']] = None
                yield {**info, 'window': window, 'min_valid': self.min_valid}
        raise NoWindowError(
            f'{_DRAWS} windows, drawn one after the other from the {self.num_scenes} '
            f'scenes of {self.ann_file or self.data_root!r}, have less than '
            f'min_valid={self.min_valid:g} of valid pixels each, such as in '
            f'{", ".join(list(names)[:5]) or "none, as no scene can be read"}. Lower '
            'min_valid or tile_size of SceneWindows, leave scenes without data out, '
            'or correct nodata or quality of LoadImagery if it marks what is data'
        )

    def _record_empty(self, index: int) -> None:
        # Elsewhere in the scene there may be data.
        self._redrawn += 1

    @property
    @force_full_init
    def empty_count(self) -> int:
        """Number of windows drawn again so far, by the workers of this process."""
        return int(self._redrawn)


def _check_weight(weight: float, what: str) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f'{what} must be a number of at least 0, got {weight}')


def _name(path: str, root: str) -> str:
    """A path relative to a folder that it lies in; an address as it is."""
    name = os.path.relpath(path, root or '.')
    return path if '://' in path or name.startswith('..') else name


def _chosen(
    weights: Mapping[str, float], paths: Sequence[str], root: str
) -> dict[int, float]:
    """Weights by number of the scene, of those that are named."""
    if not weights:
        return {}
    names = [_name(path, root) for path in paths]
    numbers: dict[str, list[int]] = {}
    for number, (path, name) in enumerate(zip(paths, names, strict=True)):
        for known in {path, name}:
            numbers.setdefault(known, []).append(number)
    chosen: dict[int, float] = {}
    for key, weight in weights.items():
        named = numbers.get(key) or [
            number for number, name in enumerate(names) if fnmatchcase(name, key)
        ]
        if not named:
            close = difflib.get_close_matches(key, names, n=1, cutoff=0)
            raise ValueError(
                f'SceneWindows: weights names {key!r}, but no scene has this name or '
                f'matches this pattern; the closest is {close[0]!r} (paths are '
                f'relative to data_root {root!r})'
            )
        for number in named:
            chosen.setdefault(number, weight)
    return chosen


#: Height and width of a scene, and where it lies.
_Seen = tuple[tuple[int, int], Place | None]


def _look(
    paths: Sequence[str], reading: Reading, with_place: bool
) -> list[_Seen | UnreadableImageError]:
    """What the headers of scenes say, or why they cannot be read."""

    def look(path: str) -> _Seen | UnreadableImageError:
        try:
            if not with_place:
                return read_header(path, reading).shape, None
            with ImageFile(path, reading=reading) as image:
                return image.header.shape, image.place
        except UnreadableImageError as error:
            return error

    # Threads that set filters of warnings leave them as the last one found them.
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(look, paths))


def _inside(area: Area, place: Place, shape: tuple[int, int]) -> list[Any]:
    """Polygons of an area in the pixels of an image, cut off at its edges."""
    import shapely

    outlines = area.outlines(place, (0, 0, *shape))
    return [part for part in shapely.get_parts(outlines) if part.area > 0]
