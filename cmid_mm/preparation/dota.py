# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented detection: DOTA v1.0 in tiles, DIOR-R."""

import json
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ..images import Reading, is_image_name
from ..labels.dota import DOTA_CLASSES
from ..restartable import Job
from .dota_tiles import TileSettings, write_labelled_tiles
from .errors import PreparationError
from .preparation import Preparation
from .sources import SourceFile, source_files


@dataclass
class DOTAPreparation(Preparation):
    """DOTA v1.0 in tiles of one scale."""

    name = 'dota'
    title = 'DOTA v1.0'
    url = 'https://captain-whu.github.io/DOTA/dataset.html'
    licence = 'images of Google Earth, GF-2, JL-1, CycloMedia; academic use only'
    expects = (
        '  train/  part1.zip part2.zip part3.zip labelTxt.zip\n'
        '  val/    part1.zip labelTxt.zip\n'
        '  test/   part1.zip part2.zip\n'
        '  or what is in them, in folders of any name below train, val, test: images '
        '(P0000.png ...)\n'
        '  and the oriented v1.0 labels (P0000.txt ...). 1411, 458 and 937 images.'
    )
    folder = 'data/split_ss_dota'

    size: int = field(default=1024, metadata=dict(help='side of the tiles in pixels'))
    gap: int = field(
        default=200, metadata=dict(help='pixels that neighbouring tiles share')
    )
    rates: tuple[float, ...] = field(
        default=(1.0,),
        metadata=dict(help='size and gap are divided by each of these'),
    )
    splits: tuple[str, ...] = field(
        default=('train', 'val', 'test'), metadata=dict(help='splits to prepare')
    )
    complete: str = field(
        default='yes',
        metadata=dict(
            help='no: take as many images as there are, some of DOTA or your own',
            choices=['yes', 'no'],
        ),
    )

    bands: tuple[int, ...] = field(
        default=(),
        metadata=dict(
            help='three bands of your own images, counted from 1; default: all',
            type=int,
        ),
    )
    value_range: tuple[float, ...] = field(
        default=(),
        metadata=dict(
            help='values of your own images that become 0 and 255, LOW HIGH, or LOW '
            'HIGH of each band; needed unless they are 8-bit',
            type=float,
        ),
    )
    classes: tuple[str, ...] = field(
        default=(),
        metadata=dict(
            help='names of the classes of your own labels; default: those of DOTA v1.0',
            type=str,
        ),
    )

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Match images and labels of each split; a job for each image."""
        positive = self.rates and all(0 < rate < math.inf for rate in self.rates)
        sizes = tuple(int(self.size / rate) for rate in self.rates if positive)
        gaps = tuple(int(self.gap / rate) for rate in self.rates if positive)
        pairs = zip(gaps, sizes, strict=True)
        if not positive or not all(0 <= gap < size for gap, size in pairs):
            raise PreparationError(
                f'gap {self.gap} must be at least 0 and smaller than size {self.size}, '
                f'and rates {self.rates} positive, so that tiles of size / rate pixels '
                'share gap / rate'
            )
        settings = TileSettings(
            sizes,
            gaps,
            self.classes or DOTA_CLASSES,
            Reading(3, self.bands or None, self._value_range()),
        )
        jobs = []
        for split in self.splits:
            images, labels = self._files(source, split)
            folders = [destination / split]
            if split != 'test':
                folders.append(destination / 'trainval')
            for name, image in images.items():
                done = destination / 'done' / split / f'{name}.json'
                label = labels.get(name)
                write = partial(
                    write_labelled_tiles, image, label, folders, done, settings
                )
                jobs.append(Job((done,), write))
        return jobs

    def _value_range(self) -> Any:
        values = self.value_range
        if not values or len(values) == 2:
            return values or None
        if len(values) == 6:
            return tuple(zip(values[::2], values[1::2], strict=True))
        raise PreparationError(
            f'--value-range takes LOW HIGH, or LOW HIGH of each of the three bands, '
            f'got {len(values)} numbers'
        )

    def _files(
        self, source: Path, split: str
    ) -> tuple[dict[str, SourceFile], dict[str, SourceFile]]:
        """Images and labels of a split, each by its name without suffix."""
        if split not in _COUNTS:
            raise PreparationError(f'split {split!r} is none of {", ".join(_COUNTS)}')
        if not (source / split).is_dir():
            raise self.missing(f'{source} has no folder {split}')
        images: dict[str, SourceFile] = {}
        labels: dict[str, SourceFile] = {}
        for file in source_files(source / split):
            path = PurePosixPath(file.name)
            if is_image_name(path):
                group = images
            elif path.suffix.lower() == '.txt' and not _is_other_label(file, source):
                group = labels
            else:
                continue
            if group.setdefault(path.stem, file) is not file:
                raise PreparationError(
                    f'{group[path.stem]} and {file} are both {path.name} of {split}; '
                    'remove one'
                )
        if not images or (self.complete == 'yes' and len(images) != _COUNTS[split]):
            raise self.missing(
                f'{source / split} has {len(images)} images, not {_COUNTS[split]} '
                '(--complete no accepts any number)'
            )
        if split == 'test':
            return images, {}
        for these, those, what in (
            (images, labels, 'image'),
            (labels, images, 'label file'),
        ):
            alone = sorted(set(these) - set(those))
            if alone:
                raise self.missing(
                    f'{source / split}: {len(alone)} times a {what} without its '
                    f'counterpart, first {these[alone[0]]}'
                )
        return images, labels

    def check(self, destination: Path) -> str:
        """Compare the tiles with the lists, and images with label files."""
        summary, flat = [], []
        for split in self.splits:
            records = [
                json.loads(file.read_text())
                for file in sorted((destination / 'done' / split).glob('*.json'))
            ]
            expected = {stem for record in records for stem in record['tiles']}
            flat += [record for record in records if record['flat']]
            kinds = ['images', 'annfiles'] if split != 'test' else ['images']
            for kind in kinds:
                found = {path.stem for path in (destination / split / kind).iterdir()}
                if found != expected:
                    raise PreparationError(
                        f'{destination / split / kind} does not hold the '
                        f'{len(expected)} tiles that were written, first difference '
                        f'{min(found ^ expected)}; remove {destination}, run again'
                    )
            boxes = sum(
                file.read_bytes().count(b'\n')
                for file in (destination / split).glob('annfiles/*.txt')
            )
            counted = '' if split == 'test' else f' with {boxes} boxes'
            summary.append(f'{split} {len(expected)} tiles{counted}')
            if split != 'test' and not boxes:
                raise PreparationError(f'{destination / split} has no box at all')
        told = ''
        if flat:
            count = sum(record['flat'] for record in flat)
            told = (
                f'; {count} boxes without area were left out, in {len(flat)} label '
                f'files, first {flat[0]["label"]}'
            )
        return ', '.join(summary) + told


#: Images of DOTA v1.0.
_COUNTS = {'train': 1411, 'val': 458, 'test': 937}


def _is_other_label(file: SourceFile, source: Path) -> bool:
    """Whether a text file holds horizontal boxes or labels of a later version."""
    place = f'{file.path.relative_to(source)}/{file.name}'.lower()
    return any(word in place for word in ('v1.5', 'v2.0', 'reclabel', 'task2'))


@dataclass
class DOTAMultiScalePreparation(DOTAPreparation):
    """DOTA v1.0 in tiles of three scales."""

    name = 'dota-ms'
    title = 'DOTA v1.0, three scales'
    folder = 'data/split_ms_dota'
    gap: int = field(
        default=500, metadata=dict(help='pixels that neighbouring tiles share')
    )
    rates: tuple[float, ...] = field(
        default=(0.5, 1.0, 1.5),
        metadata=dict(help='size and gap are divided by each of these'),
    )
