# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Change detection sets: pairs of images and masks of what changed."""

import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..datasets.change_detection import ChangeDetectionDataset
from ..images import Window, load_image, tile_windows
from ..images.writing import write_image
from ..labels.errors import LabelError
from ..labels.masks import IGNORED, read_change_mask
from ..restartable import Job
from .errors import PreparationError
from .preparation import Preparation
from .sources import SourceFile, source_files

#: The files of a sample, by the folder they come from.
Sample = dict[str, SourceFile]

#: Samples of one job.
_CHUNK = 20


@dataclass
class ChangePreparation(Preparation):
    """What the change detection sets share."""

    #: Side of the pairs in pixels.
    side: ClassVar[int]
    #: Pairs of each part.
    counts: ClassVar[dict[str, int]]
    #: Folder of the masks.
    label_dir: ClassVar[str]
    #: Where the files lie: part, folder and name.
    pattern: ClassVar[str]

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Find the pairs of each part with their masks."""
        folders = ('A', 'B', self.label_dir)
        found: dict[tuple[str, str], Sample] = defaultdict(dict)
        for file in source_files(source):
            # An archive train.zip may hold A, B and label without a folder train.
            archive = '' if file.member is None else f'{file.path.stem}/'
            match = re.search(self.pattern, archive + file.name)
            if match is None:
                continue
            part, folder, name = match.groups()
            same_name = found[part, folder].setdefault(name, file)
            if same_name is not file:
                raise PreparationError(
                    f'{same_name} and {file} are both {folder}/{name} of {part}; give '
                    'the folder of one download only'
                )
        jobs = []
        for part, count in self.counts.items():
            names = sorted(set().union(*(found[part, folder] for folder in folders)))
            for folder in folders:
                missing = [name for name in names if name not in found[part, folder]]
                if missing:
                    raise self.missing(
                        f'{source}: {part}/{folder} lacks {len(missing)} files, first '
                        f'{missing[0]}'
                    )
            if len(names) != count:
                raise self.missing(
                    f'{source} has {len(names)} pairs in {part}, not {count}'
                )
            samples = {
                name: {folder: found[part, folder][name] for folder in folders}
                for name in names
            }
            jobs += self.part_jobs(part, samples, destination / part)
        return jobs

    @abstractmethod
    def part_jobs(
        self, part: str, samples: dict[str, Sample], destination: Path
    ) -> list[Job]:
        """Plan the work on one part, ``train``, ``val`` or ``test``."""

    def check(self, destination: Path) -> str:
        """Find the pairs of each part as the configs will."""
        sizes = {
            part: len(
                ChangeDetectionDataset(
                    str(destination),
                    split=part,
                    label_dir=self.label_dir,
                    serialize_data=False,
                )
            )
            for part in self.counts
        }
        return ', '.join(f'{part} {size} pairs' for part, size in sizes.items())


def copy_jobs(
    samples: dict[str, Sample], destination: Path, side: int, label_dir: str
) -> list[Job]:
    """Jobs that link, copy or extract samples as they are, some at a time."""
    jobs = []
    names = sorted(samples)
    for start in range(0, len(names), _CHUNK):
        chunk = [samples[name] for name in names[start : start + _CHUNK]]
        outputs = tuple(
            destination / folder / Path(file.name).name
            for sample in chunk
            for folder, file in sample.items()
        )
        write = partial(save_samples, chunk, destination, side, label_dir)
        jobs.append(Job(outputs, write))
    return jobs


def save_samples(
    samples: Sequence[Sample], destination: Path, side: int, label_dir: str
) -> None:
    """Link, copy or extract samples; each file is decoded once to check it.

    Args:
        samples (Sequence[Sample]): Samples of the download.
        destination (Path): Folder for ``A``, ``B`` and the masks.
        side (int): Expected side of all files in pixels.
        label_dir (str): Folder of the masks.

    Raises:
        PreparationError: If a file is damaged, of another size or not a mask; it is
            not put at its place.
    """
    for sample in samples:
        for folder, file in sample.items():
            path = destination / folder / Path(file.name).name
            check = partial(_read, side=side, is_mask=folder == label_dir)
            file.save(path, check)


def write_sample_tiles(
    sample: Sample, outputs: dict[Path, Window], side: int, label_dir: str
) -> None:
    """Cut both dates and the mask of a sample into PNG tiles.

    Args:
        sample (Sample): Files of the download.
        outputs (dict[Path, Window]): For each tile its path below its folder, and
            its top, left, height and width; the folder is the name of the path's
            parent.
        side (int): Expected side of all files in pixels.
        label_dir (str): Folder of the masks.

    Raises:
        PreparationError: If a file is damaged, of another size or not a mask.
    """
    for folder, file in sample.items():
        with file.opened() as path:
            image = _read(path, side, folder == label_dir)
        for output, (top, left, height, width) in outputs.items():
            if output.parent.name == folder:
                write_image(output, image[top : top + height, left : left + width])


def _read(path: Path, side: int, is_mask: bool) -> NDArray[np.uint8]:
    """The image, or the mask with 255 for change, of a file of the download."""
    image = read_change_mask(path) if is_mask else load_image(path)
    if image.shape[:2] != (side, side):
        raise ValueError(
            f'{path}: {image.shape[1]} x {image.shape[0]} pixels, not {side} x {side}; '
            'give the data set as it is downloaded'
        )
    if not is_mask:
        return image
    if (image == IGNORED).any():
        raise LabelError(
            f'{path}: has pixels that are neither changed nor unchanged, which no mask '
            'of the data set has; give the data set as it is downloaded'
        )
    return image * np.uint8(255)


@dataclass
class CDDPreparation(ChangePreparation):
    """The real part of CDD (SVCD) as it is."""

    name = 'cdd'
    title = 'CDD (season-varying change detection, SVCD)'
    url = 'https://drive.google.com/file/d/1GX656JqqOyBi_Ef0w65kDGVto-nHrNs9'
    licence = 'none stated'
    expects = (
        '  ChangeDetectionDataset.zip, or what is in it (only Real/subset is used):\n'
        '  ChangeDetectionDataset/Real/subset/train/A/00000.jpg, .../B, .../OUT\n'
        '  (10000 pairs), .../val/... (3000), .../test/... (3000)'
    )
    folder = 'data/cdd'
    side = 256
    counts = dict(train=10000, val=3000, test=3000)
    label_dir = 'OUT'
    # Synthetic pairs lie in other folders of the same structure.
    pattern = (
        r'(?:^|(?:^|/)subset/)(?:subset/)?(train|val|test)/(A|B|OUT)/([^/]+\.jpg)$'
    )

    def part_jobs(
        self, part: str, samples: dict[str, Sample], destination: Path
    ) -> list[Job]:
        """Keep all files as they are."""
        return copy_jobs(samples, destination, self.side, self.label_dir)


@dataclass
class LEVIRPreparation(ChangePreparation):
    """LEVIR-CD: training pairs in tiles, the others whole."""

    name = 'levir-cd'
    title = 'LEVIR-CD'
    url = 'https://justchenhao.github.io/LEVIR/'
    licence = 'academic use'
    expects = (
        '  train.zip, val.zip and test.zip, or what is in them:\n'
        '  train/A/train_1.png, train/B, train/label (445 pairs), val/... (64),\n'
        '  test/... (128)'
    )
    folder = 'data/LEVIR-CD'
    side = 1024
    counts = dict(train=445, val=64, test=128)
    label_dir = 'label'
    pattern = r'(?:^|/)(train|val|test)/(A|B|label)/([^/]+\.png)$'

    tile_size: int = field(
        default=256,
        metadata=dict(help='side of a training tile in pixels; 1024 keeps pairs whole'),
    )

    def part_jobs(
        self, part: str, samples: dict[str, Sample], destination: Path
    ) -> list[Job]:
        """Cut the training pairs into tiles, side by side; keep the others."""
        if not 1 <= self.tile_size <= self.side:
            raise PreparationError(
                f'tile_size must be 1 to {self.side} pixels, got {self.tile_size}'
            )
        if part != 'train' or self.tile_size == self.side:
            return copy_jobs(samples, destination, self.side, self.label_dir)
        jobs = []
        windows = [*tile_windows(self.side, self.side, self.tile_size, 0)]
        for name, sample in samples.items():
            outputs = {
                destination / folder / f'{Path(name).stem}_{top:04d}_{left:04d}.png': (
                    (top, left, height, width)
                )
                for folder in sample
                for top, left, height, width in windows
            }
            write = partial(
                write_sample_tiles, sample, outputs, self.side, self.label_dir
            )
            jobs.append(Job(tuple(outputs), write))
        return jobs
