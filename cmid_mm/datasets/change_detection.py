# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pairs of images with a mask of what changed: CDD, LEVIR-CD, any A/B/label folder."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from ..images import is_image_name
from ..images.finding import ACCEPTED
from ..labels.lists import read_list
from .matching import images_by_stem
from .transforms import bitemporal  # noqa: F401  registers the transforms
from .unreadable import SkipsUnreadable


@DATASETS.register_module()
class ChangeDetectionDataset(SkipsUnreadable):
    """Pairs of images of two dates and the mask of what changed between them.

    ::

        data_root/split/A/name.png        first date
        data_root/split/B/name.png        second date
        data_root/split/label/name.png    mask

    The three files of a sample have one name; their extensions may differ. Samples
    are in the order of their names.

    Args:
        data_root (str): Folder of the data set.
        split (str): Subfolder, such as ``'train'``. Defaults to '', none.
        before_dir (str): Folder of the first date. Defaults to ``'A'``.
        after_dir (str): Folder of the second date. Defaults to ``'B'``.
        label_dir (str): Folder of the masks, ``'OUT'`` in CDD. Defaults to
            ``'label'``.
        ann_file (str): List, relative to ``data_root``, with the name of one sample a
            line, for sets whose splits share their folders; see
            :func:`~cmid_mm.labels.lists.read_list`. Defaults to '', all that are there.
        pipeline (Sequence[dict | Callable]): Transforms. Defaults to ().
        **kwargs: ``indices``, ``test_mode``, ``serialize_data``, ``lazy_init`` and
            the others of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: If a folder, a listed sample or a sample's partner is
            missing.
        ValueError: If two files of one folder have the same name.
    """

    METAINFO = dict(
        classes=('unchanged', 'changed'), palette=[[0, 0, 0], [255, 255, 255]]
    )

    def __init__(
        self,
        data_root: str = '',
        split: str = '',
        before_dir: str = 'A',
        after_dir: str = 'B',
        label_dir: str = 'label',
        ann_file: str = '',
        pipeline: Sequence[dict[str, Any] | Callable[..., Any]] = (),
        **kwargs: Any,
    ) -> None:
        self.folders = {
            key: Path(os.path.expanduser(data_root), split, folder)
            for key, folder in (
                ('img_path', before_dir),
                ('img_path2', after_dir),
                ('seg_map_path', label_dir),
            )
        }
        super().__init__(
            data_root=os.path.expanduser(data_root),
            ann_file=ann_file,
            pipeline=pipeline,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the samples: ``img_path``, ``img_path2`` and ``seg_map_path``."""
        files = {key: _images(folder) for key, folder in self.folders.items()}
        names = set().union(*files.values())
        if self.ann_file:
            names = _listed_names(self.ann_file)
        for key, folder in self.folders.items():
            missing = sorted(names - set(files[key]))
            if missing:
                raise FileNotFoundError(
                    f'{folder}: {len(missing)} of {len(names)} samples have no file '
                    f'there, first {missing[0]!r}. Both dates and the mask of a sample '
                    f'have the same name in {_join(self.folders.values())}'
                )
        if not names:
            raise FileNotFoundError(
                f'{self.folders["img_path"]} holds no image. Accepted extensions: '
                f'{ACCEPTED}'
            )
        return [
            {key: str(files[key][name]) for key in self.folders}
            for name in sorted(names)
        ]


def _images(folder: Path) -> dict[str, Path]:
    """Image files of a folder by their name without extension."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{folder} is not a folder. A change detection set has folders A and B '
            'with the two dates and one with the masks; see data_root, split and '
            'label_dir of the data set, or --data-root'
        )
    return images_by_stem(folder)


def _listed_names(ann_file: str) -> set[str]:
    if not os.path.isfile(ann_file):
        raise FileNotFoundError(
            f'ann_file {ann_file!r} does not exist. It is a text file with the name of '
            'one sample a line; leave it out to use all that are there'
        )
    names = [Path(name) for _, name in read_list(ann_file)]
    return {
        str(path.with_suffix('') if is_image_name(path) else path) for path in names
    }


def _join(folders: Iterable[Path]) -> str:
    return ', '.join(map(str, folders))
