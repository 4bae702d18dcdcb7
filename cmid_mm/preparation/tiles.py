# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Labelled windows of scenes as files: an ordinary data set."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..datasets.windowed.scenes import LabelledScenes
from ..files import write_bytes
from ..images import Pixels, Reading, Window
from ..images.writing import write_bands
from ..labels.dota import TRUNCATED, format_boxes
from ..labels.layers import BoxLayer, LabelLayer
from ..labels.lists import read_list, write_list
from ..labels.masks import IGNORED
from ..restartable import Job, RestartableFolder, run_jobs
from .errors import PreparationError

#: Names of the classes, for ``metainfo=dict(classes=...)``.
CLASS_LIST = 'classes.txt'


@dataclass(frozen=True)
class SceneTiles:
    """Which windows become tiles.

    Attributes:
        images: Scenes: files, folders, patterns, lists.
        labels: What lies on them: ``path`` and other arguments of the layer.
        window: Side of the tiles in pixels.
        overlap: Pixels that neighbours share.
        parts: Vector layer of the area of each part of the data set by its name; of
            one part without a name and area, all.
        boxes: Whether the labels are oriented boxes, else classes of pixels.
        reading: Bands to take (of none all), what is missing, distance of pixels.
    """

    images: Sequence[str]
    labels: Mapping[str, Any]
    window: int
    overlap: int
    parts: Mapping[str, str | None]
    boxes: bool
    reading: Reading

    def settings(self) -> dict[str, Any]:
        """What the tiles depend on, as JSON has it."""
        paths = [str(self.labels['path']), *filter(None, self.parts.values())]
        contents = {
            f'content of {path}': _checksum(path)
            for named in paths
            for path in _files_of(named)
        }
        reading = repr(self.reading)
        return {**vars(self), 'dataset': 'tiles', 'reading': reading, **contents}

    def scenes(self, area: str | None) -> LabelledScenes:
        """The scenes and labels, within an area."""
        return LabelledScenes(
            BoxLayer if self.boxes else LabelLayer,
            self.images,
            self.labels,
            self.window,
            self.overlap,
            area,
            '',
            self.reading,
        )


def _files_of(named: str) -> list[str]:
    """The files that hold labels or areas; of a Shapefile with its attributes."""
    paths = map(Path, sorted(glob(escape(named).replace('{stem}', '*'))))
    held = [file for path in paths for file in (path, path.with_suffix('.dbf'))]
    return [str(file) for file in dict.fromkeys(held) if file.is_file()]


def _checksum(path: str) -> int:
    checksum = 0
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            checksum = crc32(chunk, checksum)
    return checksum


def parts_of(split: Path | None) -> dict[str, str | None]:
    """The parts of a split.

    Args:
        split: Folder with a vector layer of the area of each part, such as
            ``train.gpkg``; None for one part of all.

    Returns:
        Vector layer of each part by its name.

    Raises:
        FileNotFoundError: If there is none in the folder.
    """
    if split is None:
        return {'': None}
    paths = sorted(split.glob('*.gpkg'))
    found: dict[str, str | None] = {path.stem: str(path) for path in paths}
    if not found:
        raise FileNotFoundError(
            f'{split} holds no *.gpkg; tools/split_dataset.py writes train.gpkg and '
            'test.gpkg'
        )
    return found


def write_tiles(tiles: SceneTiles, folder: Path, workers: int = 1) -> str:
    """Write a data set, or go on where an earlier attempt stopped.

    ::

        folder/PART/images/NAME__SIZE__LEFT___TOP.tif    all bands as they are stored
        folder/PART/masks/...tif                         classes, 255 ignored
        folder/PART/annfiles/...txt                      instead, of boxes: DOTA text
        folder/classes.txt

    Windows without labels, or without data, are left out; of boxes, windows without
    one are kept as background.

    Args:
        tiles: Which.
        folder: New, empty, or left behind by an interrupted run of the same settings.
        workers: Number of processes.

    Returns:
        What was made, and how a config names it; some lines.

    Raises:
        FileExistsError: If the folder holds something else.
        PreparationError: If two scenes have one name.
        LabelError: If scenes, labels and areas do not lie on the same ground, a value
            has no class, or no window has labels.
    """
    target = RestartableFolder(folder, tiles.settings())
    if target.is_complete():
        return f'{folder} is complete: {_summary(tiles, folder)}'
    target.begin()
    try:
        jobs: list[Job] = []
        for part, area in tiles.parts.items():
            scenes = tiles.scenes(area)
            _check_names(scenes.names)
            jobs += _jobs(scenes, folder, part)
        classes = scenes.layers.classes
        run_jobs(jobs, workers)
        write_list(folder / CLASS_LIST, map(_word, classes) if tiles.boxes else classes)
        for part, area in tiles.parts.items():
            records = _records(folder, part)
            if not any(record['tiles'] for record in records):
                count = sum(record['windows'] for record in records)
                raise tiles.scenes(area).nothing_labelled(count)
    except BaseException:
        target.abandon()
        raise
    target.finish()
    return f'{folder}: {_summary(tiles, folder)}'


def _check_names(scenes: Sequence[str]) -> None:
    name, count = Counter(Path(scene).stem for scene in scenes).most_common(1)[0]
    if count > 1:
        raise PreparationError(
            f'{count} scenes are called {name}, and so would be their tiles; rename '
            'them, or write a data set for each folder'
        )


def _jobs(scenes: LabelledScenes, folder: Path, part: str) -> list[Job]:
    """One for each scene, which its record says to be done."""
    jobs = []
    for scene, placed in scenes.windows().items():
        record = folder / 'done' / part / f'{Path(scene).stem}.json'
        windows = [window for window, _ in placed]
        write = partial(_write_scene, scenes, scene, windows, folder / part, record)
        jobs.append(Job((record,), write))
    return jobs


def _word(name: str) -> str:
    """A name as DOTA's text has it, whose columns blanks divide."""
    return '-'.join(name.split())


def _write_scene(
    scenes: LabelledScenes,
    scene: str,
    windows: Sequence[Window],
    folder: Path,
    record: Path,
) -> None:
    """Write the tiles of a scene, and last the record of them."""
    image, layer = scenes.open(scene), scenes.layers.of(scene)
    reading = scenes.reading
    if reading.bands is None:
        reading = replace(reading, num_bands=image.header.num_bands)
    nodata = image.header.nodata if reading.nodata is None else reading.nodata
    classes = scenes.layers.classes
    counts: NDArray[np.int64] = np.zeros(len(classes), np.int64)
    names = []
    for window in windows:
        pixels = image.read(reading, window)
        if pixels.valid is not None and not pixels.valid.any():
            continue
        top, left, height, width = window
        name = f'{Path(scene).stem}__{max(height, width)}__{left}___{top}'
        place = None if image.place is None else image.place.moved(top, left)
        if isinstance(layer, BoxLayer):
            corners, kinds, shares = layer.boxes(image, window)
            difficulties = [0 if share == 1 else TRUNCATED for share in shares]
            text = format_boxes(corners, [classes[k] for k in kinds], difficulties)
            write_bytes(folder / 'annfiles' / f'{name}.txt', text)
        else:
            mask = scenes.mask(scene, window)
            if pixels.missing is not None:
                mask[pixels.missing] = IGNORED
            if (mask == IGNORED).all():
                continue
            path = folder / 'masks' / f'{name}.tif'
            labels = Pixels(mask[..., None])
            write_bands(path, labels, place, IGNORED, scenes.layers.palette)
            kinds = mask[mask != IGNORED]
        counts += np.bincount(kinds, minlength=len(classes))
        if nodata is not None and pixels.valid is not None:
            pixels.values[~pixels.valid] = nodata
        # Last: a mask without an image is no sample, an image without a mask is one.
        write_bands(folder / 'images' / f'{name}.tif', pixels, place, nodata)
        names.append(name)
    content = dict(tiles=names, windows=len(windows), counts=counts.tolist())
    write_bytes(record, json.dumps(content, indent=2).encode())


def _records(folder: Path, part: str) -> list[dict[str, Any]]:
    return [
        json.loads(file.read_text(encoding='utf-8'))
        for file in sorted((folder / 'done' / part).glob('*.json'))
    ]


def _summary(tiles: SceneTiles, folder: Path) -> str:
    """How many tiles each part has, with which classes, and how configs name them."""
    classes = [name for _, name in read_list(folder / CLASS_LIST)]
    unit = 'boxes' if tiles.boxes else 'labelled pixels'
    lines = ['tiles of the windows with labels']
    for part in tiles.parts:
        records = _records(folder, part)
        counts = np.sum([record['counts'] for record in records], axis=0)
        shares = ', '.join(
            f'{name} {100 * count / max(counts.sum(), 1):.2f} %'
            for name, count in zip(classes, counts, strict=True)
        )
        count = sum(len(record['tiles']) for record in records)
        lines.append(f'{part or "all"}: {count} tiles; of {unit} {shares}')
    part = next(iter(tiles.parts))
    images = str(Path(part, 'images'))
    lines.append('in a config (of each part alike):')
    lines.append(
        f'dict(type={"OrientedBoxFolder" if tiles.boxes else "IndexMaskFolder"!r}, '
        f'data_root={str(folder)!r}, metainfo=dict(classes={tuple(classes)}), '
        + (
            f'ann_file={str(Path(part, "annfiles"))!r}, '
            f'data_prefix=dict(img_path={images!r}), ...)'
            if tiles.boxes
            else f'data_prefix=dict(img_path={images!r}, '
            f"seg_map_path={str(Path(part, 'masks'))!r}), img_suffix='.tif', "
            "seg_map_suffix='.tif', ...)"
        )
    )
    return '\n'.join(lines)
