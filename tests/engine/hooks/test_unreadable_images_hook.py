# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.logging import MessageHub
from PIL import Image

from cmid_mm.datasets import ImageryDataset
from cmid_mm.datasets.imagery import TooManyUnreadableError
from cmid_mm.engine.hooks.unreadable_images_hook import UnreadableImagesHook


@pytest.fixture
def runner(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(5):
        path = folder / f'{number}.png'
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(path)
    for number in (1, 2):
        path = folder / f'{number}.png'
        path.write_bytes(path.read_bytes()[:40])
    dataset = ImageryDataset(
        str(folder), pipeline=[dict(type='LoadImagery', size=16)], max_unreadable=1
    )
    return SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset),
        message_hub=MessageHub.get_instance(f'unreadable-{tmp_path.name}'),
        work_dir=str(tmp_path),
        iter=0,
    )


def run_iteration(hook, runner):
    hook.after_train_iter(runner, runner.iter)
    runner.iter += 1


def test_count_is_logged_and_paths_are_listed(runner, tmp_path):
    hook = UnreadableImagesHook(interval=2)
    dataset = runner.train_dataloader.dataset
    _ = dataset[1]
    run_iteration(hook, runner)
    assert 'train/unreadable_images' not in runner.message_hub.log_scalars
    run_iteration(hook, runner)
    logged = runner.message_hub.get_scalar('train/unreadable_images')
    assert logged.current() == 2
    listed = (tmp_path / 'unreadable.txt').read_text().splitlines()
    assert listed == dataset.unreadable_paths()
    assert [path[-5:] for path in listed] == ['1.png', '2.png']


def test_no_list_without_unreadable_images(runner, tmp_path):
    hook = UnreadableImagesHook(interval=1)
    run_iteration(hook, runner)
    hook.after_train(runner)
    assert runner.message_hub.get_scalar('train/unreadable_images').current() == 0
    assert not (tmp_path / 'unreadable.txt').exists()


def test_training_stops_above_the_share(runner, tmp_path):
    hook = UnreadableImagesHook(interval=1)
    dataset = runner.train_dataloader.dataset
    _ = dataset[1]
    # What several processes found only together exceeds the share.
    dataset.max_unreadable = 0.3
    with pytest.raises(TooManyUnreadableError, match='2 of 5'):
        run_iteration(hook, runner)
    assert len((tmp_path / 'unreadable.txt').read_text().splitlines()) == 2
    # A run that has ended is not failed afterwards.
    hook.after_train(runner)


def test_other_datasets_are_left_alone(runner):
    runner.train_dataloader.dataset = [1, 2]
    hook = UnreadableImagesHook(interval=1)
    run_iteration(hook, runner)
    assert 'train/unreadable_images' not in runner.message_hub.log_scalars


def test_empty_windows_are_counted(runner, tmp_path):
    pixels = np.full((16, 64, 3), 9, np.uint8)
    pixels[:, :32] = 0
    Image.fromarray(pixels).save(tmp_path / 'scene.png')
    (tmp_path / 'list.txt').write_text('scene.png')
    loader = dict(type='LoadImagery', nodata=0)
    dataset = ImageryDataset(str(tmp_path), 'list.txt', [loader], tile_size=16)
    runner.train_dataloader.dataset = dataset
    for key in range(4):
        assert (dataset[key]['img'] == 9).all()
    UnreadableImagesHook(interval=1).after_train(runner)
    assert runner.message_hub.get_scalar('train/empty_windows').current() == 2
    assert runner.message_hub.get_scalar('train/unreadable_images').current() == 0


def test_a_resumed_run_adds_to_the_list(runner, tmp_path):
    (tmp_path / 'unreadable.txt').write_text('before.png\n')
    hook = UnreadableImagesHook(interval=1)
    runner.iter = 5
    hook.before_train(runner)
    dataset = runner.train_dataloader.dataset
    _ = dataset[1]
    hook.after_train(runner)
    listed = (tmp_path / 'unreadable.txt').read_text().splitlines()
    assert listed == ['before.png', *dataset.unreadable_paths()]
    # A new run in the same folder begins a new list.
    runner.iter = 0
    hook = UnreadableImagesHook(interval=1)
    hook.before_train(runner)
    hook.after_train(runner)
    listed = (tmp_path / 'unreadable.txt').read_text().splitlines()
    assert listed == dataset.unreadable_paths()
