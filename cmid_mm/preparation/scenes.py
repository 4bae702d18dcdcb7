# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scene classification sets: a folder for each class, and the lists of the split."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

from ..datasets.scenes import (
    AID,
    RESISC45,
    EuroSAT,
    SceneDataset,
    UCMerced,
    split_scenes,
)
from ..images import Reading, is_image_name, load_image, read_header
from ..labels.lists import read_list, write_list
from ..restartable import Job
from .errors import PreparationError
from .preparation import Preparation
from .sources import SourceFile, source_files

SPLITS = Path(__file__).parent / 'splits'


class ScenePreparation(Preparation):
    """What the scene sets share.

    The images keep their names and content, linked where the file system permits it.
    Each is decoded once, so that a damaged one is named now and not while training.
    """

    dataset: ClassVar[type[SceneDataset]]
    #: Images of all classes.
    num_images: ClassVar[int]

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Find the images of each class; a job for each class, one for the lists."""
        classes = self.dataset.METAINFO['classes']
        found: dict[str, dict[str, SourceFile]] = {name: {} for name in classes}
        for file in source_files(source):
            path = PurePosixPath(file.name)
            if not is_image_name(path):
                continue
            if path.parent.name in found:
                same_name = found[path.parent.name].setdefault(path.name, file)
                if same_name is not file:
                    raise PreparationError(
                        f'{same_name} and {file} are both image {path.name} of class '
                        f'{path.parent.name}; give the folder of one download only'
                    )
        absent = [name for name, files in found.items() if not files]
        if absent:
            raise self.missing(
                f'{source} has no images of {len(absent)} of the {len(classes)} '
                f'classes: {", ".join(absent)}'
            )
        count = sum(map(len, found.values()))
        if count != self.num_images:
            classes_found = ', '.join(f'{name} {len(f)}' for name, f in found.items())
            raise self.missing(
                f'{source} has {count} images in class folders, not '
                f'{self.num_images} ({classes_found})'
            )
        jobs = []
        for name, files in found.items():
            paths = tuple(destination / name / file for file in files)
            copies = partial(write_scenes, list(files.values()), paths)
            jobs.append(Job(paths, copies))
        names = [f'{name}/{file}' for name, files in found.items() for file in files]
        train, test = self.split(names)
        for list_name, members in (('train', train), ('test', test)):
            list_file = destination / f'{list_name}.txt'
            write = partial(write_list, list_file, members)
            jobs.append(Job((list_file,), write))
        return jobs

    def split(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Divide the images, named ``class/image``, into training and test set."""
        raise NotImplementedError

    def check(self, destination: Path) -> str:
        """Read both lists as the configs will, and count."""
        sizes = []
        for name in ('train', 'test'):
            dataset = self.dataset(str(destination), ann_file=f'{name}.txt')
            sizes.append(len(dataset))
        if sum(sizes) != self.num_images:
            raise PreparationError(
                f'{destination}: train.txt and test.txt list {sum(sizes)} images, not '
                f'{self.num_images}; remove the folder and run again'
            )
        classes = len(self.dataset.METAINFO['classes'])
        return f'{classes} classes, {sizes[0]} training and {sizes[1]} test images'


def write_scenes(files: Sequence[SourceFile], paths: Sequence[Path]) -> None:
    """Link, copy or extract the images of a class, and decode each once.

    Args:
        files (Sequence[SourceFile]): Images of the download.
        paths (Sequence[Path]): Where to put them.

    Raises:
        PreparationError: If images cannot be decoded; names them. They are not left
            at their places, the others are.
    """
    damaged = []
    for file, path in zip(files, paths, strict=True):
        try:
            file.save(path, _check_image)
        except PreparationError as error:
            damaged.append(str(error))
    if damaged:
        raise PreparationError(
            f'{len(damaged)} damaged images: {"; ".join(damaged[:10])}. Download or '
            'extract them again, then repeat the command'
        )


def _check_image(path: Path) -> None:
    load_image(path, Reading(read_header(path).num_bands))


@dataclass
class UCMercedPreparation(ScenePreparation):
    """UC Merced with its fixed split."""

    name = 'ucmerced'
    title = 'UC Merced Land Use'
    url = 'http://weegee.vision.ucmerced.edu/datasets/landuse.html'
    licence = 'imagery of the USGS, public domain'
    expects = (
        '  UCMerced_LandUse.zip, or what is in it:\n'
        '  UCMerced_LandUse/Images/agricultural/agricultural00.tif ... (21 x 100)'
    )
    folder = 'data/ucmerced'
    dataset = UCMerced
    num_images = 2100

    def split(self, names: list[str]) -> tuple[list[str], list[str]]:
        """A public split, 80 and 20 images of each class."""
        by_stem = {str(PurePosixPath(name).with_suffix('')): name for name in names}
        parts = []
        for part in ('train', 'test'):
            stems = [name for _, name in read_list(SPLITS / f'ucmerced_{part}.txt')]
            absent = [stem for stem in stems if stem not in by_stem]
            if absent:
                raise self.missing(
                    f'{len(absent)} images of the split are missing, first {absent[0]}'
                )
            parts.append([by_stem[stem] for stem in stems])
        return parts[0], parts[1]


@dataclass
class _SplitBySeed(ScenePreparation):
    """A set without an official split."""

    train_ratio: float = field(
        default=0.8, metadata=dict(help='share of each class to train on')
    )
    seed: int = field(default=0, metadata=dict(help='seed of the split'))

    def split(self, names: list[str]) -> tuple[list[str], list[str]]:
        """A class-balanced split that seed and ratio determine."""
        return split_scenes(names, self.train_ratio, self.seed)


@dataclass
class AIDPreparation(_SplitBySeed):
    """AID, by default 2:8 (Xia et al., TGRS 2017: 20 and 50 % for training)."""

    name = 'aid'
    title = 'AID (Aerial Image Dataset)'
    url = 'https://captain-whu.github.io/AID/'
    licence = 'imagery of Google Earth; academic use'
    expects = (
        '  AID.zip, or what is in it:\n'
        '  AID/Airport/airport_1.jpg ... (30 classes, 10000 images)'
    )
    folder = 'data/aid'
    dataset = AID
    num_images = 10000
    train_ratio: float = field(
        default=0.2,
        metadata=dict(help='share of each class to train on; usual: 0.2, 0.5'),
    )


@dataclass
class RESISC45Preparation(_SplitBySeed):
    """RESISC45, by default 1:9 (Cheng et al., Proc. IEEE 2017: 10 and 20 %)."""

    name = 'resisc45'
    title = 'NWPU-RESISC45'
    url = 'https://gcheng-nwpu.github.io/'
    licence = 'imagery of Google Earth; academic use'
    expects = (
        '  what is in NWPU-RESISC45.rar (extract it first; zip files are read as they '
        'are):\n'
        '  NWPU-RESISC45/airplane/airplane_001.jpg ... (45 x 700)'
    )
    folder = 'data/resisc45'
    dataset = RESISC45
    num_images = 31500
    train_ratio: float = field(
        default=0.1,
        metadata=dict(help='share of each class to train on; usual: 0.1, 0.2'),
    )


@dataclass
class EuroSATPreparation(_SplitBySeed):
    """EuroSAT RGB, by default 8:2 (Helber et al., JSTARS 2019)."""

    name = 'eurosat'
    title = 'EuroSAT (RGB)'
    url = 'https://zenodo.org/records/7711810'
    licence = 'MIT; imagery of Copernicus Sentinel-2'
    expects = (
        '  EuroSAT_RGB.zip (in older downloads EuroSAT.zip), or what is in it:\n'
        '  EuroSAT_RGB/AnnualCrop/AnnualCrop_1.jpg ... (10 classes, 27000 images)'
    )
    folder = 'data/eurosat'
    dataset = EuroSAT
    num_images = 27000
    train_ratio: float = field(
        default=0.8,
        metadata=dict(help='share of each class to train on; usual: 0.8, 0.9'),
    )
