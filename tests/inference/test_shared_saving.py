# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Several processes that make the results of the same images."""

import csv
import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from cmid_mm.inference.classification import Classification
from cmid_mm.inference.saving import Saver
from cmid_mm.inference.segmentation import Probabilities
from cmid_mm.inference.shards import Shard
from cmid_mm.restartable import OtherSettingsError

from .tiny_segmentation import segmentation, write_raster

WINDOWS = dict(window=40, overlap=12, batch_size=4)
SIZES = [(150, 118), (30, 30), (36, 30), (150, 60), (30, 36)]


@pytest.fixture
def images(tmp_path):
    return [
        write_raster(tmp_path / f'{"scene" * number}{number}.tif', *size)
        for number, size in enumerate(SIZES)
    ]


def task(classifies=False):
    if classifies:
        return classification()
    made = segmentation()
    made.probabilities = Probabilities('classes', 16)
    return made


def save(made, folder, images, shard, settings=None, **options):
    saver = Saver(made, folder, settings or {'checkpoint': 'a'})
    return list(saver.predict(images, **WINDOWS | options, shard=shard))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


@pytest.fixture
def expected(tmp_path, images):
    save(task(), tmp_path / 'whole', images, Shard())
    return contents(tmp_path / 'whole')


@pytest.mark.parametrize(('order', 'total'), [((1, 2, 3), 3), ((2, 1), 2)])
def test_one_after_the_other(tmp_path, images, expected, order, total):
    out = tmp_path / 'out'
    calls = []
    for number in order:
        made = task()
        saved = save(made, out, images, Shard(number, total))
        calls.append(sum(made.model.calls))
        assert all(path.name.startswith('.') for path in out.glob('*unfinished'))
    assert contents(out) == expected
    # Each image is finished by somebody; the last has no part that waits.
    assert saved and all(one.files for one in saved)
    assert max(calls) < 1.5 * sum(calls) / total
    # Late comers find nothing to do.
    made = task()
    assert not any(one.is_new for one in save(made, out, images, Shard(1, total)))
    assert not made.model.calls and contents(out) == expected


def test_more_shards_than_strips(tmp_path, images, expected):
    for number in range(20, 0, -1):
        save(task(), tmp_path / 'out', images, Shard(number, 20))
    assert contents(tmp_path / 'out') == expected


def test_a_shard_that_was_stopped_goes_on(tmp_path, images, expected):
    out = tmp_path / 'out'
    stopped = task()
    stopped.model.fails_after = 3
    with pytest.raises(RuntimeError, match='stopped'):
        save(stopped, out, images, Shard(1, 2))
    save(task(), out, images, Shard(2, 2))
    assert 'scene.tif' not in contents(out)
    save(task(), out, images, Shard(1, 2))
    assert contents(out) == expected


def run_shard(folder, images, number, total):
    torch.set_num_threads(1)
    save(task(), folder, images, Shard(number, total))


@pytest.mark.parametrize('numbers', [(1, 2), (1, 1, 2, 2)])
def test_at_the_same_time(tmp_path, images, expected, numbers):
    """Two shards, or by mistake each of them twice."""
    out = tmp_path / 'out'
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=run_shard, args=(out, images, number, 2))
        for number in numbers
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(numbers)
    assert contents(out) == expected


def test_both_find_all_done(tmp_path, images, expected, monkeypatch):
    """The other finishes while this one joins the strips."""
    out = tmp_path / 'out'
    first = images[:1]
    save(task(), out, first, Shard(1, 2))
    made = task()
    join = made.join_strips

    def join_late(image, grid, to):
        save(task(), out, first, Shard(2, 2))
        return join(image, grid, to)

    monkeypatch.setattr(made, 'join_strips', join_late)
    (saved,) = save(made, out, first, Shard(2, 2))
    assert all(file.exists() for file in saved.files) and len(saved.files) == 3
    names = set(contents(out))
    assert names == {name for name in expected if name.startswith('0')}


def test_other_settings_are_refused(tmp_path, images):
    out = tmp_path / 'out'
    save(task(), out, images[:1], Shard(1, 2))
    with pytest.raises(OtherSettingsError, match='another checkpoint; remove .*unfin'):
        save(task(), out, images[:1], Shard(2, 2), {'checkpoint': 'b'})
    save(task(), out, images[:1], Shard(2, 2))
    assert (out / '0.tif').exists()


def test_an_image_that_cannot_be_read_is_told_once(tmp_path, images):
    images[2].write_bytes(images[2].read_bytes()[:100])
    failed = []
    for number in (1, 2, 3):
        save(
            task(),
            tmp_path / 'out',
            images,
            Shard(number, 3),
            on_error=lambda path, error: failed.append(path),
        )
    assert failed == [images[2]]
    assert len([*(tmp_path / 'out').glob('*_prob.tif')]) == len(images) - 1


class MeanColour(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def test_step(self, batch):
        means = torch.stack(
            [each.float().mean((1, 2)) / 255 for each in batch['inputs']]
        )
        return [
            SimpleNamespace(pred_score=score)
            for score in self.layer(means / 255).softmax(1).detach()
        ]


def classification():
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(),
            test_dataloader=dict(
                dataset=dict(
                    pipeline=[dict(type='LoadImagery'), dict(type='PackInputs')]
                )
            ),
        )
    )
    torch.manual_seed(0)
    return Classification(cfg, MeanColour(), dict(classes=('a', 'b', 'c')))


@pytest.mark.parametrize('window', [0, 40])
def test_the_table_of_scenes_is_complete(tmp_path, images, window):
    options = dict(window=window, overlap=0)
    save(task(True), tmp_path / 'whole', images, Shard(), **options)
    for number in (3, 1, 2):
        assert not (tmp_path / 'out' / 'predictions.csv').exists()
        save(task(True), tmp_path / 'out', images, Shard(number, 3), **options)
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
    with (tmp_path / 'out' / 'predictions.csv').open() as file:
        rows = list(csv.DictReader(file))
    tiles = [bool(window) and max(size) > window for size in SIZES]
    scenes = [
        str(image) for image, tiled in zip(images, tiles, strict=True) if not tiled
    ]
    assert [row['image'] for row in rows] == scenes
    assert len(np.unique([row['score'] for row in rows])) > 1
