# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from cmid_mm.checkpoints import CheckpointError
from cmid_mm.engine import start
from cmid_mm.engine.start import read_start


class Toy(BaseModel):
    """A model of one layer."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


class ToyRunner:
    """What is looked at of a runner."""

    def __init__(self, path, resume, model=None, optimizer=torch.optim.AdamW):
        self.cfg = Config(dict(load_from=str(path), resume=resume))
        self.model = model or Toy()
        self.param_schedulers = [dict(type='LinearLR')]
        self.optim_wrapper = optimizer

    def build_optim_wrapper(self, optimizer):
        return OptimWrapper(optimizer(self.model.parameters(), lr=0.1))


@pytest.fixture
def saved(tmp_path):
    """Save a checkpoint of a run with changes."""

    def save(drop=(), **changes):
        runner = ToyRunner('', True)
        checkpoint = dict(
            state_dict=runner.model.state_dict(),
            meta=dict(epoch=1, iter=4),
            message_hub={},
            optimizer=runner.build_optim_wrapper(torch.optim.AdamW).state_dict(),
            param_schedulers=[{}],
        )
        checkpoint.update(changes)
        path = tmp_path / 'run.pth'
        torch.save({k: v for k, v in checkpoint.items() if k not in drop}, path)
        return path

    return save


@pytest.mark.parametrize('resume', [False, True])
def test_what_fits_is_read_once(saved, resume):
    path = saved()
    read = read_start(ToyRunner(path, resume))
    assert list(read) == [str(path)]
    assert read[str(path)]['meta'] == dict(epoch=1, iter=4)
    assert read_start(ToyRunner('https://a.b/c.pth', resume)) == {}
    assert read_start(ToyRunner('', resume)) == {}


def test_weights_alone_may_be_loaded(saved):
    path = saved(drop=['optimizer', 'message_hub', 'param_schedulers', 'meta'])
    assert 'layer.weight' in read_start(ToyRunner(path, False))[str(path)]['state_dict']
    missing = r'run\.pth .* no meta, epoch, iter, message_hub, optimizer, param_sch'
    with pytest.raises(CheckpointError, match=missing):
        read_start(ToyRunner(path, True))
    with pytest.raises(CheckpointError, match='has no epoch, iter; to start a new'):
        read_start(ToyRunner(saved(meta={}), True))


@pytest.mark.parametrize(
    ('resume', 'message'),
    [
        (
            False,
            r'^load_from: .*run\.pth .*layer\.bias 2 inst.*--backbone-check',
        ),
        (True, r'^--resume: .*run\.pth .*layer\.bias 2 inst.*it was started'),
    ],
)
def test_weights_of_another_model_are_refused(saved, resume, message):
    with pytest.raises(CheckpointError, match=message):
        read_start(ToyRunner(saved(), resume, Toy(5)))


def test_another_optimizer_is_refused(saved):
    path = saved()
    with pytest.raises(CheckpointError, match=r'run\.pth .* no dampening, momentum'):
        read_start(ToyRunner(path, True, optimizer=torch.optim.SGD))
    read_start(ToyRunner(path, True, optimizer=torch.optim.Adam))

    def frozen(parameters, lr):
        return torch.optim.AdamW(list(parameters)[:1], lr)

    expected = '1 groups of 2 parameters in all, the one of this config 1 of 1'
    with pytest.raises(CheckpointError, match=expected):
        read_start(ToyRunner(path, True, optimizer=frozen))
    # Only one that resumes needs it.
    read_start(ToyRunner(path, False, optimizer=torch.optim.SGD))


def test_all_processes_start_from_what_the_first_has_found(saved, monkeypatch):
    """The second has found nothing: its view of a shared folder was older."""
    first = (str(saved()), True)

    def broadcast(objects):
        objects[0] = first

    monkeypatch.setattr(start.dist, 'broadcast_object_list', broadcast)
    second = ToyRunner('', False)
    assert list(read_start(second)) == [first[0]]
    assert (second._load_from, second._resume) == first
