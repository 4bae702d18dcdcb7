# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Oriented boxes in DOTA's text form, read strictly."""

from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

from ..dependencies import DETECTION_VERSIONS, check_dependencies

check_dependencies(DETECTION_VERSIONS)

from mmrotate.datasets import DOTADataset  # noqa: E402

#: Lines that DOTA's original files begin with.
_HEADERS = ('imagesource:', 'gsd:')


@DATASETS.register_module()
class OrientedBoxFolder(DOTADataset):
    """A folder of images and a folder of DOTA text files of the same names.

    Differs from mmrotate's ``DOTADataset`` in that the images come in the order of
    their names on every machine (so ``indices=40`` means the same 40), that the
    header lines of DOTA's original files are skipped, that the difficulty may be
    missing, and that an error names the file and the line. Without an ``ann_file``
    the images are listed for testing, as in mmrotate.

    Args:
        **kwargs: See ``mmrotate.datasets.DOTADataset``. The classes are those of
            DOTA v1.0 unless ``metainfo=dict(classes=...)`` is given.

    Raises:
        FileNotFoundError: If the folder has no image, no annotation file, or an
            annotation file has no image.
        ValueError: If a line is not ``x1 y1 x2 y2 x3 y3 x4 y4 class difficulty``
            or its class is unknown.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images with their boxes.

        Returns:
            list[dict]: ``img_id``, ``file_name``, ``img_path`` and ``instances``, each
            with ``bbox`` (8 coordinates in pixels), ``bbox_label``, ``ignore_flag``.
        """
        images = Path(self.data_prefix['img_path'])
        found = {path.stem: path for path in images.glob(f'*.{self.img_suffix}')}
        if not found:
            raise FileNotFoundError(
                f'no *.{self.img_suffix} in {images}; expected the images there '
                '(data_root and data_prefix of the config, or --data-root)'
            )
        if not self.ann_file:
            # Images without labels: mmrotate's own form of "nothing known".
            unknown = dict(bbox=[], bbox_label=[], ignore_flag=0)
            return [self._entry(found[name], [unknown]) for name in sorted(found)]
        files = sorted(Path(self.ann_file).glob('*.txt'))
        if not files:
            raise FileNotFoundError(
                f'no *.txt in {self.ann_file}; expected an annotation file for each '
                f'image of {images}'
            )
        for file in files:
            if file.stem not in found:
                raise FileNotFoundError(
                    f'{file} has no image {images / file.stem}.{self.img_suffix}'
                )
        return [self._entry(found[file.stem], self._read(file)) for file in files]

    def _entry(self, image: Path, instances: list[dict[str, Any]]) -> dict[str, Any]:
        return dict(
            img_id=image.stem,
            file_name=image.name,
            img_path=str(image),
            instances=instances,
        )

    def _read(self, file: Path) -> list[dict[str, Any]]:
        classes = self.metainfo['classes']
        instances = []
        for number, line in enumerate(file.read_text().splitlines(), 1):
            words = line.split()
            if not words or line.lower().startswith(_HEADERS):
                continue
            try:
                box = [float(word) for word in words[:8]]
                name, difficulty = words[8], int(words[9]) if words[9:] else 0
            except (ValueError, IndexError):
                raise ValueError(
                    f'{file}, line {number}: expected x1 y1 x2 y2 x3 y3 x4 y4 class '
                    f'difficulty, found {line!r}'
                ) from None
            if name not in classes:
                raise ValueError(
                    f'{file}, line {number}: unknown class {name!r}; expected one of '
                    f'{", ".join(classes)} (metainfo.classes of the data set)'
                )
            ignored = int(difficulty > self.diff_thr)
            instances.append(
                dict(bbox=box, bbox_label=classes.index(name), ignore_flag=ignored)
            )
        return instances
