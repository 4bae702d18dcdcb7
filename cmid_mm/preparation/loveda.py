# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""LoveDA: urban and rural scenes with seven classes."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from ..images import load_image
from ..labels.masks import read_index_mask
from ..restartable import Job
from .errors import PreparationError
from .preparation import Preparation
from .sources import SourceFile, source_files

#: Files of one job.
_CHUNK = 50


def save_checked(files: Sequence[SourceFile], paths: Sequence[Path]) -> None:
    """Link, copy or extract images or masks, and decode each once.

    Args:
        files (Sequence[SourceFile]): Files of the download.
        paths (Sequence[Path]): Where to put them; below ``ann_dir``, masks.

    Raises:
        PreparationError: If a file is damaged, or a mask has other values than 0 to 7.
            It is not put at its place.
    """
    for file, path in zip(files, paths, strict=True):
        file.save(path, _check_mask if 'ann_dir' in path.parts else load_image)


def _check_mask(path: Path) -> None:
    read_index_mask(path, num_classes=8)


@dataclass
class LoveDAPreparation(Preparation):
    """LoveDA as mmseg's converter lays it out: urban and rural scenes together."""

    name = 'loveda'
    title = 'LoveDA'
    url = 'https://zenodo.org/records/5706578'
    licence = 'CC BY-NC-SA 4.0'
    expects = (
        '  Train.zip, Val.zip and, if predictions for the test server are wanted,\n'
        '  Test.zip, or what is in them:\n'
        '  Train/Rural/images_png/0.png, Train/Rural/masks_png/0.png,\n'
        '  Train/Urban/... (2522 images), Val/... (1669), Test/... (1796, no masks)'
    )
    folder = 'data/loveDA'
    #: Images of each part.
    counts: ClassVar[dict[str, int]] = {'Train': 2522, 'Val': 1669, 'Test': 1796}

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Find images and masks of each part; a job for fifty files."""
        found: dict[tuple[str, str], dict[str, SourceFile]] = defaultdict(dict)
        for file in source_files(source):
            match = re.search(
                r'(?:^|/)(Train|Val|Test)/(?:Rural|Urban)/(images|masks)_png/(\d+\.png)$',
                file.name,
            )
            if match is None:
                continue
            part, kind, name = match.groups()
            same_name = found[part, kind].setdefault(name, file)
            if same_name is not file:
                raise PreparationError(
                    f'{same_name} and {file} are both {name} of {part}; give the '
                    'folder of one download only'
                )
        jobs = []
        for part, count in self.counts.items():
            images, masks = found[part, 'images'], found[part, 'masks']
            if part == 'Test':
                if not images:
                    continue  # has no labels: not needed for training
                masks = {}
            elif images.keys() != masks.keys():
                name = sorted(images.keys() ^ masks.keys())[0]
                raise self.missing(f'{source}: {part} has no image or no mask {name}')
            if len(images) != count:
                raise self.missing(
                    f'{source} has {len(images)} images in {part}, not {count}'
                )
            for folder, files in (('img_dir', images), ('ann_dir', masks)):
                names = sorted(files)
                for start in range(0, len(names), _CHUNK):
                    chunk = names[start : start + _CHUNK]
                    paths = tuple(
                        destination / folder / part.lower() / name for name in chunk
                    )
                    write = partial(save_checked, [files[n] for n in chunk], paths)
                    jobs.append(Job(paths, write))
        return jobs
