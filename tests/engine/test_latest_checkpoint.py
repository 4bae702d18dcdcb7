# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os
import shutil

import pytest
import torch

from cmid_mm.checkpoints import CheckpointError
from cmid_mm.engine.latest_checkpoint import latest_checkpoint, recorded_checkpoint
from tests.engine.damage import DAMAGES


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has saved at three iterations."""
    folder = tmp_path / 'run'
    folder.mkdir()
    # The one that is furthest is the oldest file and not the last name.
    steps = {'iter_9.pth': 90, 'epoch_10.pth': 80, 'epoch_9.pth': 70}
    for age, (name, step) in enumerate(steps.items()):
        save(folder / name, step)
        os.utime(folder / name, (age, age))
    record(folder, 'iter_9.pth')
    return folder


def save(file, step):
    torch.save(dict(meta=dict(iter=step), weights=torch.rand(3000)), file)


def record(folder, name):
    (folder / 'last_checkpoint').write_text(str(folder / name))


def test_nothing_there(tmp_path, capsys):
    assert latest_checkpoint(tmp_path / 'none') is None
    (tmp_path / '20260101_000000').mkdir()  # the log of a run that had not saved yet
    assert latest_checkpoint(tmp_path) is None
    assert capsys.readouterr().out == ''


def test_the_recorded_one_is_taken_silently(run, capsys):
    assert latest_checkpoint(str(run)) == str(run / 'iter_9.pth')
    # A run that was started anew in the folder of an older one.
    record(run, 'epoch_9.pth')
    assert latest_checkpoint(run) == str(run / 'epoch_9.pth')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_one_before_a_damaged_one(run, capsys, damage):
    damage(run / 'iter_9.pth')
    assert latest_checkpoint(run) == str(run / 'epoch_10.pth')
    said = capsys.readouterr().out
    assert f'{run}/iter_9.pth' in said
    assert f'going on from {run}/epoch_10.pth, iteration 80' in said
    damage(run / 'epoch_10.pth')
    assert latest_checkpoint(run) == str(run / 'epoch_9.pth')
    damage(run / 'epoch_9.pth')
    with pytest.raises(CheckpointError, match=r'none that is whole.*--resume CKPT'):
        latest_checkpoint(run)


@pytest.mark.parametrize(
    'content', [b'', b'\xff\xfe\x00', b'a\0b', b'epoch_3.pth', b'/', b'.', b'x' * 9000]
)
def test_rubbish_in_the_record(run, capsys, content):
    (run / 'last_checkpoint').write_bytes(content)
    assert latest_checkpoint(run) == str(run / 'iter_9.pth')
    said = capsys.readouterr().out
    assert f'{run}/last_checkpoint names' in said and 'iteration 90' in said
    assert len(said) < 600


def test_a_pipe_in_place_of_the_record_is_not_waited_for(run, capsys):
    (run / 'last_checkpoint').unlink()
    os.mkfifo(run / 'last_checkpoint')
    assert latest_checkpoint(run) == str(run / 'iter_9.pth')
    assert 'last_checkpoint names no file' in capsys.readouterr().out


def test_without_record_the_furthest(run):
    (run / 'last_checkpoint').unlink()
    assert latest_checkpoint(run) == str(run / 'iter_9.pth')


@pytest.mark.parametrize('left', ['last_checkpoint', 'best_acc_epoch_3.pth'])
def test_a_folder_whose_checkpoints_are_gone(tmp_path, left):
    (tmp_path / left).write_text(str(tmp_path / 'epoch_9.pth'))
    with pytest.raises(CheckpointError, match=r'a run has saved.*start anew'):
        latest_checkpoint(tmp_path)


def test_copied_folder_has_its_own(run, tmp_path):
    copied = tmp_path / 'copy'
    shutil.copytree(run, copied)
    assert latest_checkpoint(copied) == str(copied / 'iter_9.pth')


def test_checkpoints_kept_elsewhere(run, tmp_path):
    (run / 'iter_9.pth').rename(run / 'mine_9.pth')
    folder = tmp_path / 'other'
    folder.mkdir()
    (folder / 'last_checkpoint').write_text(str(run / 'mine_9.pth'))
    assert latest_checkpoint(folder) == str(run / 'mine_9.pth')
    assert recorded_checkpoint(folder) == run / 'mine_9.pth'
    DAMAGES[0](run / 'mine_9.pth')
    assert latest_checkpoint(folder) == str(run / 'epoch_10.pth')
