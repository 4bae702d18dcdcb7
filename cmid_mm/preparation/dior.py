# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""DIOR-R: its class names, labels and files."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from ..images import load_image
from ..labels.errors import LabelError
from ..labels.lists import list_entries, read_list, write_list
from ..restartable import Job
from .preparation import Preparation
from .sources import SourceFile, source_files

DIOR_CLASSES = (
    'airplane',
    'airport',
    'baseballfield',
    'basketballcourt',
    'bridge',
    'chimney',
    'expressway-service-area',
    'expressway-toll-station',
    'dam',
    'golffield',
    'groundtrackfield',
    'harbor',
    'overpass',
    'ship',
    'stadium',
    'storagetank',
    'tenniscourt',
    'trainstation',
    'vehicle',
    'windmill',
)

_CORNERS = [
    f'{axis}_{corner}'
    for corner in ('left_top', 'right_top', 'right_bottom', 'left_bottom')
    for axis in 'xy'
]


def check_dior_label(content: bytes, name: str) -> None:
    """Check an annotation of DIOR-R as far as mmrotate reads it.

    Args:
        content (bytes): The XML file.
        name (str): What to call it in an error.

    Raises:
        LabelError: If it is no XML, or an object has an unknown class or not
            the eight coordinates of an oriented box.
    """
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise LabelError(f'{name} is no XML file: {error}') from None
    for item in root.findall('object'):
        found = (item.findtext('name') or '').lower()
        if found not in DIOR_CLASSES:
            raise LabelError(f'{name}: {found!r} is no class of DIOR')
        try:
            for corner in _CORNERS:
                float(item.findtext(f'robndbox/{corner}') or '')
        except ValueError:
            raise LabelError(
                f'{name}: a {found} has no number for robndbox/{corner}; expected the '
                'oriented boxes of DIOR-R'
            ) from None


def write_dior(files: Sequence[tuple[SourceFile, Path]]) -> None:
    """Put images and annotations into place, and read each once.

    Args:
        files (Sequence[tuple[SourceFile, Path]]): Files of the download, and where to
            put them.

    Raises:
        PreparationError: If one is damaged; names it.
    """
    for file, path in files:
        if path.suffix == '.xml':
            file.save(path, lambda copy: check_dior_label(copy.read_bytes(), str(copy)))
        else:
            file.save(path, load_image)


@dataclass
class DIORRPreparation(Preparation):
    """DIOR with oriented boxes, as mmrotate reads it."""

    name = 'dior-r'
    title = 'DIOR-R'
    url = 'https://gcheng-nwpu.github.io/#Datasets'
    licence = 'images of Google Earth; academic use only'
    expects = (
        '  JPEGImages-trainval.zip JPEGImages-test.zip Annotations.zip ImageSets.zip '
        '(also Main.zip),\n'
        '  or what is in them, in folders of any name: 00001.jpg ... 23463.jpg,\n'
        '  Oriented Bounding Boxes/00001.xml ..., and the lists train.txt, val.txt, '
        'test.txt'
    )
    folder = 'data/DIOR'
    complete: str = field(
        default='yes',
        metadata=dict(
            help='no: take as many images as the lists name', choices=['yes', 'no']
        ),
    )

    def jobs(self, source: Path, destination: Path) -> list[Job]:
        """Match lists, images and annotations; a job for 256 images."""
        images: dict[str, SourceFile] = {}
        labels: dict[str, SourceFile] = {}
        lists: dict[str, list[str]] = {}
        for file in source_files(source):
            path = PurePosixPath(file.name)
            if path.suffix == '.jpg':
                images[path.stem] = file
            elif path.suffix == '.xml' and 'Oriented' in f'{file.path}/{file.name}':
                labels[path.stem] = file
            elif path.stem in _DIOR_COUNTS and path.suffix == '.txt':
                entries = list_entries(file.read(), str(file))
                lists[path.stem] = [name for _, name in entries]
        for split, count in _DIOR_COUNTS.items():
            if split not in lists:
                raise self.missing(f'{source} has no {split}.txt')
            if self.complete == 'yes' and len(lists[split]) != count:
                raise self.missing(
                    f'{split}.txt of {source} names {len(lists[split])} images, not '
                    f'{count}'
                )
            for found, what in ((images, '.jpg'), (labels, '.xml')):
                absent = [name for name in lists[split] if name not in found]
                if absent:
                    raise self.missing(
                        f'{source} lacks {len(absent)} {what} files of {split}.txt, '
                        f'first {absent[0]}{what}'
                    )
        main = destination / 'ImageSets' / 'Main'
        lists['trainval'] = lists['train'] + lists['val']
        jobs = []
        for split, names in lists.items():
            target = main / f'{split}.txt'
            jobs.append(Job((target,), partial(write_list, target, names)))
        for split in ('trainval', 'test'):
            pictures = destination / f'JPEGImages-{split}'
            boxes = destination / 'Annotations' / 'Oriented Bounding Boxes'
            for start in range(0, len(lists[split]), 256):
                files = []
                for name in lists[split][start : start + 256]:
                    files.append((images[name], pictures / f'{name}.jpg'))
                    files.append((labels[name], boxes / f'{name}.xml'))
                outputs = tuple(path for _, path in files)
                jobs.append(Job(outputs, partial(write_dior, files)))
        return jobs

    def check(self, destination: Path) -> str:
        """Count what the lists name."""
        main = destination / 'ImageSets' / 'Main'
        sizes = [
            f'{split} {len(read_list(main / f"{split}.txt"))} images'
            for split in ('trainval', 'test')
        ]
        return ', '.join(sizes)


#: Images of DIOR.
_DIOR_COUNTS = {'train': 5862, 'val': 5863, 'test': 11738}
