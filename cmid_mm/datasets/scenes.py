# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Scenes of one class each: folders of images, lists, splits and few labels."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from mmpretrain.datasets import BaseDataset

from ..images import beside, find_images, image_path, is_missing
from ..images.finding import ACCEPTED
from ..labels.lists import read_list
from .unreadable import SkipsUnreadable


def find_scenes(
    root: str | Path, list_file: str | Path | None = None
) -> list[tuple[Path, str]]:
    """Find images and their classes.

    Without a list the class of an image is the first folder below ``root``; the
    image may lie at any depth inside it. With a list each line is a path relative
    to ``root``, again with its class in front (``forest/forest07.jpg``), or a path
    and an integer label (``images/0007.jpg 4``), which then is the class; see
    :func:`~cmid_mm.labels.lists.read_list`.

    Args:
        root (str | Path): Folder with the images.
        list_file (str | Path, optional): List of the images to use; a relative
            path that does not exist is looked for in ``root``. Defaults to None.

    Returns:
        list[tuple[Path, str]]: Path and class name, sorted by path, or in the
        order of the list.

    Raises:
        FileNotFoundError: If ``root``, the list or an image in it does not exist.
        ValueError: If there are no images or a line of the list is malformed.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f'{root} is not a folder; expected one folder for each class '
            'in it (UC Merced: agricultural/, airplane/, ...)'
        )
    if list_file is None:
        return _scan(root)
    return _read_list(root, _find_list(root, Path(list_file)))


def _scan(root: Path) -> list[tuple[Path, str]]:
    images = [
        (path, path.relative_to(root).parts[0])
        for path in find_images(root)
        if path.parent != root
    ]
    if not images:
        raise ValueError(
            f'{root} has no images in class folders; expected '
            f'CLASS/IMAGE with one of {ACCEPTED}'
        )
    return images


def _find_list(root: Path, list_file: Path) -> Path:
    for path in (list_file, root / list_file):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'list of images {list_file} does not exist, here or in {root}; '
        f'tools/split_dataset.py {root} writes train.txt and test.txt'
    )


def _read_list(root: Path, list_path: Path) -> list[tuple[Path, str]]:
    images = []
    for number, line in read_list(list_path):
        name, _, label = line.rpartition(' ')
        if name and label.isdecimal():
            class_name = str(int(label))
        else:
            name = line
            class_name = Path(name).parts[0]
            if len(Path(name).parts) < 2:
                raise ValueError(
                    f'{list_path}, line {number}: {name!r} has no class; '
                    'expected CLASS/IMAGE, or an image and an integer label'
                )
        path = image_path(beside(root, name.strip()))
        if is_missing(path):
            raise FileNotFoundError(
                f'{path} does not exist; {list_path}, line {number}, lists it '
                f'relative to {root}'
            )
        images.append((path, class_name))
    return images


def numbers_first(name: str) -> tuple[int, int, str]:
    """Sort key of class names: integer labels by value, then names."""
    return (0, int(name), '') if name.isdecimal() else (1, 0, name)


def balanced_part(labels: Sequence[Any], fraction: float, seed: int = 0) -> list[int]:
    """Choose the same share of each class.

    The images of a class are shuffled by the seed and the first of them taken, so
    that a smaller part lies within a larger one of the same seed.

    Args:
        labels (Sequence): Class of each image.
        fraction (float): Share of each class, above 0, at most 1; rounded to whole
            images, at least one.
        seed (int): Seed of the choice. Defaults to 0.

    Returns:
        list[int]: Positions of the chosen images, ascending.

    Raises:
        ValueError: If ``fraction`` is out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f'fraction must be above 0 and at most 1, got {fraction}')
    chosen: list[int] = []
    for number, name in enumerate(sorted(set(labels))):
        members = [index for index, label in enumerate(labels) if label == name]
        order = np.random.default_rng([seed, number]).permutation(len(members))
        count = max(1, round(fraction * len(members)))
        chosen += [members[i] for i in order[:count]]
    return sorted(chosen)


def split_scenes(
    names: Sequence[str], train_ratio: float, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Split images into a training and a test set with equal shares of each class.

    Args:
        names (Sequence[str]): Images as ``class/image``.
        train_ratio (float): Share of each class to train on, between 0 and 1; rounded
            to whole images, at least one on either side.
        seed (int): Seed of the choice. Defaults to 0.

    Returns:
        tuple[list[str], list[str]]: Sorted names of the training and the test set.

    Raises:
        ValueError: If the ratio is out of range or a class has only one image.
    """
    if not 0 < train_ratio < 1:
        raise ValueError(f'train_ratio must be between 0 and 1, got {train_ratio}')
    names = sorted(names)
    labels = [Path(name).parts[0] for name in names]
    lonely = [label for label, count in Counter(labels).items() if count < 2]
    if lonely:
        raise ValueError(
            f'classes with one image only cannot be split: {", ".join(lonely)}'
        )
    train = set(balanced_part(labels, train_ratio, seed))
    for label in set(labels):
        members = {index for index, name in enumerate(labels) if name == label}
        if members <= train:
            train.remove(max(members))
    return (
        [name for index, name in enumerate(names) if index in train],
        [name for index, name in enumerate(names) if index not in train],
    )


@DATASETS.register_module()
class SceneDataset(SkipsUnreadable, BaseDataset):
    """Images of one class each, in a folder for each class.

    Args:
        data_root (str): Folder with the data set.
        data_prefix (str): Folder below ``data_root`` that holds the class folders.
            Defaults to '', ``data_root`` itself.
        ann_file (str): List of the images to use, see :func:`find_scenes`;
            relative to ``data_root``. Defaults to '', all images.
        classes (Sequence[str], optional): Names in the order of the labels.
            Defaults to None, the sorted names of the class folders.
        fraction (float): Share of the images to use, the same of each class
            (0-1, at least one image a class). Smaller parts lie within larger
            ones. Defaults to 1.0.
        fraction_seed (int): Seed of that choice, which neither the run's seed nor
            the machine changes. Defaults to 0.
        pipeline (Sequence[dict | Callable]): Transforms. Defaults to ().
        **kwargs: ``indices``, ``test_mode``, ``lazy_init``, ... as in
            :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        FileNotFoundError: If the folder, the list or a listed image is missing.
        ValueError: If a class is unknown or has no image, a line of the list is
            malformed, or ``fraction`` is out of range.
    """

    #: Whether it is an error if a class has no image.
    needs_all_classes = True

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str = '',
        ann_file: str = '',
        classes: Sequence[str] | None = None,
        fraction: float = 1.0,
        fraction_seed: int = 0,
        pipeline: Sequence[dict[str, Any] | Callable[..., Any]] = (),
        **kwargs: Any,
    ) -> None:
        self.fraction = fraction
        self.fraction_seed = fraction_seed
        super().__init__(
            data_root=os.path.expanduser(data_root),
            data_prefix=data_prefix,
            ann_file=ann_file,
            classes=classes,
            pipeline=pipeline,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images: ``img_path`` and ``gt_label``."""
        scenes = find_scenes(self.img_prefix, self.ann_file or None)
        found = {name for _, name in scenes}
        if self.CLASSES is None:
            self._metainfo['classes'] = self._folders(found)
        classes = list(self.CLASSES)
        source = self.ann_file or self.img_prefix
        unknown = sorted(found - set(classes), key=numbers_first)
        if unknown:
            raise ValueError(
                f'{source} has classes that are not expected: {", ".join(unknown)}; '
                f'expected {", ".join(classes)}, those of the training set or of '
                "classes=[...]. For other classes set that or type='SceneDataset' of "
                'the data sets, and num_classes of the model'
            )
        empty = [name for name in classes if name not in found]
        if empty and self.needs_all_classes:
            raise ValueError(
                f'{source} has no images of the classes {", ".join(empty)}; add '
                'some, or correct the list or classes=[...] of the data set'
            )
        labels = [classes.index(name) for _, name in scenes]
        return [
            dict(img_path=str(scenes[index][0]), gt_label=labels[index])
            for index in balanced_part(labels, self.fraction, self.fraction_seed)
        ]

    def _folders(self, found: set[str]) -> tuple[str, ...]:
        """All class folders, so that lists of the same folder number them alike."""
        if all(name.isdecimal() for name in found):
            return tuple(sorted(found, key=numbers_first))
        folders = {
            path.name
            for path in Path(self.img_prefix).iterdir()
            if path.is_dir() and not path.name.startswith('.')
        }
        return tuple(sorted(folders | found))


# The names of the classes are those of the folders in the official downloads.


@DATASETS.register_module()
class UCMerced(SceneDataset):
    """UC Merced Land Use: 21 classes of 100 images (Yang and Newsam, 2010)."""

    METAINFO = {
        'classes': (
            *('agricultural', 'airplane', 'baseballdiamond', 'beach', 'buildings'),
            *('chaparral', 'denseresidential', 'forest', 'freeway', 'golfcourse'),
            *('harbor', 'intersection', 'mediumresidential', 'mobilehomepark'),
            *('overpass', 'parkinglot', 'river', 'runway', 'sparseresidential'),
            *('storagetanks', 'tenniscourt'),
        )
    }


@DATASETS.register_module()
class AID(SceneDataset):
    """Aerial Image Dataset: 30 classes, 10,000 images (Xia et al., 2017)."""

    METAINFO = {
        'classes': (
            *('Airport', 'BareLand', 'BaseballField', 'Beach', 'Bridge', 'Center'),
            *('Church', 'Commercial', 'DenseResidential', 'Desert', 'Farmland'),
            *('Forest', 'Industrial', 'Meadow', 'MediumResidential', 'Mountain'),
            *('Park', 'Parking', 'Playground', 'Pond', 'Port', 'RailwayStation'),
            *('Resort', 'River', 'School', 'SparseResidential', 'Square', 'Stadium'),
            *('StorageTanks', 'Viaduct'),
        )
    }


@DATASETS.register_module()
class RESISC45(SceneDataset):
    """NWPU-RESISC45: 45 classes of 700 images (Cheng et al., 2017)."""

    METAINFO = {
        'classes': (
            *('airplane', 'airport', 'baseball_diamond', 'basketball_court', 'beach'),
            *('bridge', 'chaparral', 'church', 'circular_farmland', 'cloud'),
            *('commercial_area', 'dense_residential', 'desert', 'forest', 'freeway'),
            *('golf_course', 'ground_track_field', 'harbor', 'industrial_area'),
            *('intersection', 'island', 'lake', 'meadow', 'medium_residential'),
            *('mobile_home_park', 'mountain', 'overpass', 'palace', 'parking_lot'),
            *('railway', 'railway_station', 'rectangular_farmland', 'river'),
            *('roundabout', 'runway', 'sea_ice', 'ship', 'snowberg'),
            *('sparse_residential', 'stadium', 'storage_tank', 'tennis_court'),
            *('terrace', 'thermal_power_station', 'wetland'),
        )
    }


@DATASETS.register_module()
class EuroSAT(SceneDataset):
    """EuroSAT: 10 classes, 27,000 Sentinel-2 images (Helber et al., 2019)."""

    METAINFO = {
        'classes': (
            *('AnnualCrop', 'Forest', 'HerbaceousVegetation', 'Highway'),
            *('Industrial', 'Pasture', 'PermanentCrop', 'Residential', 'River'),
            'SeaLake',
        )
    }
