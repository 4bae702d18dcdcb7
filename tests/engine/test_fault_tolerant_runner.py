# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import json
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend
from torch import nn

from cmid_mm.engine.fault_tolerant_runner import FaultTolerantRunner
from tests.engine.hooks.test_verified_checkpoint_hook import AtIteration, train
from tests.faults import forked


class Broken(Hook):
    """Logs a line whose writing fails half way."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.visualizer.add_scalars(dict(mark=1.5), step=runner.iter)


def test_lost_lines_are_counted_and_no_half_of_one_stays(tmp_path, monkeypatch, capsys):
    dump, full = LocalVisBackend._dump, set()

    def half(self, value, path, file_format):
        if not full:
            return dump(self, value, path, file_format)
        with open(path, 'a') as file:
            file.write('{"mark": 1.')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(LocalVisBackend, '_dump', half)
    fill = AtIteration(_3=lambda _: full.add(1), _6=lambda _: full.clear())
    runner = train(tmp_path, fill, Broken(), max_epochs=3)
    numbers = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    marks = [json.loads(line) for line in numbers.splitlines() if 'mark' in line]
    assert [mark['step'] for mark in marks] == [0, 1, 2, 6, 7, 8]
    said = capsys.readouterr().err
    assert said.count('could NOT be written: [Errno 28] No space left on device') == 1
    assert '4 lines and pictures of the log could NOT be written; the reason' in said


def test_the_config_of_a_run_stays_when_another_is_started_in_its_folder(tmp_path):
    def start(number):
        source = tmp_path / 'a.py'
        source.write_text(f'number = {number}')
        cfg = Config.fromfile(str(source))
        return FaultTolerantRunner(nn.Linear(1, 1), str(tmp_path / 'work'), cfg=cfg)

    first = forked.start(lambda: [start(1), time.sleep(60)], log=tmp_path / 'log')
    try:
        config = tmp_path / 'work' / 'a.py'
        while not config.exists() or not config.read_text():
            assert first.is_alive()
            time.sleep(0.05)
        with pytest.raises(BlockingIOError, match=f'-{first.pid}, writes here; wait'):
            start(2)
        assert config.read_text().startswith('number = 1')
    finally:
        first.kill()
        first.join()
    start(2)  # whoever has ended holds nothing
    assert config.read_text().startswith('number = 2')


@pytest.mark.parametrize(('max_epochs', 'told'), [(2, True), (3, False)])
def test_a_run_that_has_ended_is_told_so(tmp_path, max_epochs, told):
    train(tmp_path, max_epochs=2)
    runner = train(tmp_path, max_epochs=max_epochs, validation=dict(resume=True))
    assert runner.epoch == max_epochs
    log = Path(runner.logger.log_file).read_text()
    assert (
        'Nothing is trained; to train further set train_cfg.max_epochs' in log
    ) is told
