# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes in DOTA's text form, read strictly."""

import logging
from pathlib import Path
from typing import Any, Literal

from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ..dependencies import DETECTION_VERSIONS, check_dependencies
from ..labels.dota import LabelledBoxes, read_boxes
from .matching import images_by_stem, texts_by_stem
from .unreadable import SkipsUnreadable

check_dependencies(DETECTION_VERSIONS)

from mmrotate.datasets import DOTADataset  # noqa: E402


@DATASETS.register_module()
class OrientedBoxFolder(SkipsUnreadable, DOTADataset):
    """A folder of images and a folder of DOTA text files of the same names.

    Differs from mmrotate's ``DOTADataset`` in that the images come in the order of
    their names on every machine (so ``indices=40`` means the same 40) and may have
    any extension, and that labels are read as :mod:`cmid_mm.labels.dota` says:
    headers are skipped, the difficulty may be missing, boxes without area are left
    out, an error names the file and the line. Without an ``ann_file`` the images are
    listed for testing, as in mmrotate.

    Args:
        img_suffix: Extension of the images. Defaults to None, any.
        unlabelled: What an image without a label file is: ``'skip'`` leaves it out,
            ``'empty'`` takes it as an image without objects. How many there are is
            logged.
        **kwargs: See ``mmrotate.datasets.DOTADataset``. The classes are those of
            DOTA v1.0 unless ``metainfo=dict(classes=...)`` is given.

    Raises:
        FileNotFoundError: If the folder has no image, no annotation file, or an
            annotation file has no image.
        ValueError: If two images have the same name, or ``unlabelled`` is something
            else.
        LabelError: If a label file is malformed or has an unknown class.
    """

    def __init__(
        self,
        img_suffix: str | None = None,
        unlabelled: Literal['skip', 'empty'] = 'skip',
        **kwargs: Any,
    ) -> None:
        if unlabelled not in ('skip', 'empty'):
            raise ValueError(
                f"OrientedBoxFolder: unlabelled must be 'skip' or 'empty', got "
                f'{unlabelled!r}'
            )
        self.unlabelled = unlabelled
        super().__init__(img_suffix=img_suffix, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images with their boxes.

        Returns:
            list[dict]: ``img_id``, ``file_name``, ``img_path`` and ``instances``, each
            with ``bbox`` (8 coordinates in pixels), ``bbox_label``, ``ignore_flag``.
        """
        images = self._images()
        if not self.ann_file:
            # Images without labels: mmrotate's own form of "nothing known".
            unknown = dict(bbox=[], bbox_label=[], ignore_flag=0)
            return [_entry(image, [unknown]) for image in images.values()]
        labels = texts_by_stem(Path(self.ann_file))
        if not labels:
            raise FileNotFoundError(
                f'no *.txt in {self.ann_file}; expected an annotation file for each '
                f'image of {self.data_prefix["img_path"]}'
            )
        for name, file in labels.items():
            if name not in images:
                raise FileNotFoundError(
                    f'{file} has no image {self._pattern(name)} in '
                    f'{self.data_prefix["img_path"]}'
                )
        boxes = {
            name: read_boxes(
                file, self.metainfo['classes'], 'metainfo.classes of the data set'
            )
            for name, file in labels.items()
        }
        self._tell(images, labels, boxes)
        return [
            _entry(image, self._instances(boxes.get(name, LabelledBoxes())))
            for name, image in images.items()
            if name in boxes or self.unlabelled == 'empty'
        ]

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave images without boxes out where the config says so.

        Raises:
            ValueError: If none remains.
        """
        remaining = super().filter_data()
        if not remaining:
            raise ValueError(
                f'no label file in {self.ann_file} holds a box, so that nothing '
                'remains (filter_cfg of the data set leaves out images without)'
            )
        return remaining

    def _images(self) -> dict[str, Path]:
        folder = Path(self.data_prefix['img_path'])
        images = images_by_stem(folder, self.img_suffix) if folder.is_dir() else {}
        if not images:
            raise FileNotFoundError(
                f'no {self._pattern("*")} in {folder}; expected the images there '
                '(data_root and data_prefix of the config, or --data-root)'
            )
        return images

    def _pattern(self, name: str) -> str:
        return f'{name}.{self.img_suffix or "*"}'

    def _tell(
        self,
        images: dict[str, Path],
        labels: dict[str, Path],
        boxes: dict[str, LabelledBoxes],
    ) -> None:
        """Log what the labels lack."""
        bare = [path for name, path in images.items() if name not in labels]
        flat = {name: found.flat for name, found in boxes.items() if found.flat}
        messages = []
        if bare:
            taken = 'left out' if self.unlabelled == 'skip' else 'taken as empty'
            messages.append(
                f'{len(bare)} of {len(images)} images have no label file in '
                f'{self.ann_file} and are {taken} (unlabelled={self.unlabelled!r}), '
                f'first {bare[0]}'
            )
        if flat:
            messages.append(
                f'{sum(flat.values())} boxes without area are left out, in {len(flat)} '
                f'label files, first {labels[next(iter(flat))]}'
            )
        for message in messages:
            print_log(message, 'current', level=logging.WARNING)

    def _instances(self, boxes: LabelledBoxes) -> list[dict[str, Any]]:
        classes = self.metainfo['classes']
        return [
            dict(
                bbox=box,
                bbox_label=classes.index(name),
                ignore_flag=int(difficulty > self.diff_thr),
            )
            for box, name, difficulty in zip(
                boxes.corners.tolist(), boxes.classes, boxes.difficulties, strict=True
            )
        ]


def _entry(image: Path, instances: list[dict[str, Any]]) -> dict[str, Any]:
    return dict(
        img_id=image.stem,
        file_name=image.name,
        img_path=str(image),
        instances=instances,
    )
