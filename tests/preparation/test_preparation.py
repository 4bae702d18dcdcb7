# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What all preparations share, on a data set made up for it."""

import functools
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmid_mm.images.writing import write_image
from cmid_mm.preparation import PREPARATIONS, prepare
from cmid_mm.preparation.errors import PreparationError
from cmid_mm.preparation.preparation import Preparation
from cmid_mm.preparation.sources import source_files
from cmid_mm.restartable import Job

SIZE = 8


def copy_image(file, path, value):
    if value == 13:
        raise PreparationError(f'{file}: unlucky')
    image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise PreparationError(f'{file}: not an image')
    write_image(path, image + np.uint8(value))


@dataclass
class Squares(Preparation):
    name = 'squares'
    title = 'Squares'
    url = 'https://example.org/squares'
    licence = 'none'
    expects = '  images/*.png'
    folder = 'data/squares'

    value: int = field(default=1, metadata=dict(help='added to all pixels'))

    def jobs(self, source, destination):
        files = [f for f in source_files(source) if f.name.startswith('images/')]
        if not files:
            raise self.missing(f'{source} has no images/')
        return [
            Job((path,), functools.partial(copy_image, file, path, self.value))
            for file in files
            for path in [destination / Path(file.name).name]
        ]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / 'src' / 'images'
    folder.mkdir(parents=True)
    for index in range(3):
        image = np.full((SIZE, SIZE, 3), 10 * index, np.uint8)
        cv2.imwrite(str(folder / f'{index}.png'), image)
    return tmp_path / 'src'


@pytest.fixture
def archive(source, tmp_path):
    path = tmp_path / 'squares.zip'
    with zipfile.ZipFile(path, 'w') as file:
        for image in sorted(source.rglob('*.png')):
            file.write(image, image.relative_to(source))
    return path


def test_a_folder_and_its_archive_give_the_same_in_any_number_of_processes(
    source, archive, tmp_path
):
    assert '3 images' in prepare(Squares(), source, tmp_path / 'one')
    prepare(Squares(), archive, tmp_path / 'two', workers=2)
    assert tree(tmp_path / 'one') == tree(tmp_path / 'two')
    assert cv2.imread(str(tmp_path / 'one' / '2.png')).max() == 21
    record = json.loads((tmp_path / 'one' / 'prepared.json').read_text())
    assert record == {'dataset': 'squares', 'value': 1}


def test_an_interrupted_run_continues_and_redoes_nothing(source, tmp_path):
    out = tmp_path / 'out'
    interrupted = source / 'images' / '1.png'
    whole = interrupted.read_bytes()
    interrupted.write_bytes(whole[:20])
    with pytest.raises(PreparationError, match=r'images/1\.png: not an image'):
        prepare(Squares(), source, out)
    assert not (out / 'prepared.json').exists()
    assert not list(out.glob('*.part'))
    first = (out / '0.png').stat().st_mtime_ns
    interrupted.write_bytes(whole)
    prepare(Squares(), source, out)
    assert (out / '0.png').stat().st_mtime_ns == first
    assert len(list(out.glob('*.png'))) == 3
    assert not (out / '.unfinished.json').exists()
    # A finished folder needs no download any more.
    assert 'is complete' in prepare(Squares(), tmp_path / 'gone', out)


def test_other_options_are_refused(source, tmp_path):
    prepare(Squares(), source, tmp_path / 'out')
    with pytest.raises(FileExistsError, match='with value=1, not with value=2'):
        prepare(Squares(value=2), source, tmp_path / 'out')


def test_what_lies_in_the_destination_is_not_touched(source, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'mine.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='out is not empty'):
        prepare(Squares(), source, out)
    assert tree(out) == {'mine.txt': b'precious'}


def test_a_wrong_download_leaves_nothing_behind(tmp_path):
    (tmp_path / 'src').mkdir()
    with pytest.raises(PreparationError, match=r'no images/.*example\.org(.|\n)*png'):
        prepare(Squares(), tmp_path / 'src', tmp_path / 'out')
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        prepare(Squares(), tmp_path / 'nowhere', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('workers', [1, 2])
def test_a_failing_job_ends_the_run(source, tmp_path, workers):
    with pytest.raises(PreparationError, match='unlucky'):
        prepare(Squares(value=13), source, tmp_path / 'out', workers)
    assert not (tmp_path / 'out' / 'prepared.json').exists()


def test_a_damaged_archive_is_named(archive, tmp_path):
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(PreparationError, match='squares.zip: not a complete zip'):
        source_files(archive)


def test_saved_files_equal_their_source(source, archive, tmp_path):
    for place in (source, archive):
        (file, *_) = source_files(place)
        file.save(tmp_path / 'saved.png')
        assert (tmp_path / 'saved.png').read_bytes() == file.read()
        assert file.name == 'images/0.png'


@pytest.mark.parametrize('name', sorted(PREPARATIONS))
def test_each_data_set_says_what_it_is(name):
    kind = PREPARATIONS[name]
    assert kind.url.startswith(('https://', 'http://'))
    assert kind.title and kind.licence and kind.expects
    assert kind.folder.startswith('data/')
    kind()
