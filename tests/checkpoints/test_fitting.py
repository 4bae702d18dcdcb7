# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from cmid_mm.checkpoints.fitting import Differences, compare_weights, load_weights
from cmid_mm.checkpoints.reading import CheckpointError


def model(classes=3):
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))


@pytest.fixture
def saved(tmp_path):
    """Save a state dict with changes; returns its path and the state."""

    def save(drop=(), **more):
        torch.manual_seed(1)
        state = {k: v + 1 for k, v in model().state_dict().items() if k not in drop}
        state.update(more)
        path = tmp_path / 'checkpoint.pth'
        torch.save(dict(state_dict=state, meta=dict(epoch=7)), path)
        return path, state

    return save


def test_loads_everything(saved):
    path, state = saved()
    target = model()
    assert load_weights(target, path) == {'epoch': 7}
    for name, value in target.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_counter_of_batch_norm_may_be_missing(saved):
    path, state = saved(drop=['1.num_batches_tracked'])
    target = model()
    load_weights(target, path)
    assert torch.equal(target[0].weight, state['0.weight'])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(drop=['0.weight']), r'missing in the file: 1 \(0.weight\)'),
        ({'7.weight': torch.ones(2)}, r'unknown to the model: 1 \(7.weight\)'),
        ({'2.bias': torch.ones(9)}, r'2.bias 9 instead of 3'),
        ({'student.a': torch.ones(2)}, 'fine-tune it first'),
    ],
)
def test_anything_else_is_refused_untouched(saved, changes, message):
    path, _ = saved(**changes)
    target = model()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(target, path)
    assert 'checkpoint.pth is no checkpoint of the model' in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_advice_for_other_settings_of_the_same_pretraining(tmp_path):
    run, other = (nn.ModuleDict(dict(student=nn.Linear(n, 1))) for n in (2, 3))
    torch.save(run.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'--cfg-options.*--backbone-only') as e:
        load_weights(other, tmp_path / 'a.pth')
    assert 'fine-tune' not in str(e.value)


def test_one_tolerance_for_models_and_backbones():
    own = dict(
        model().state_dict(),
        **{'attn.relative_position_index': torch.zeros(4), 'attn_mask': torch.ones(2)},
    )
    state = {name: value for name, value in model().state_dict().items()}
    del state['1.num_batches_tracked'], state['0.bias']
    state['2.bias'] = torch.ones(9)
    state['9.weight'] = torch.ones(1)
    state['9.num_batches_tracked'] = torch.tensor(1)
    state['attn.relative_position_index'] = torch.zeros(16)
    assert compare_weights(state, own) == Differences(
        missing=['0.bias'], surplus=['9.weight'], reshaped=['2.bias']
    )


def test_computed_buffers_of_another_size_do_not_hinder(saved):
    class Window(nn.Linear):
        def __init__(self, cells):
            super().__init__(4, 5)
            self.register_buffer('relative_position_index', torch.arange(cells))

    path, _ = saved()
    torch.save(Window(9).state_dict(), path)
    target = Window(4)
    load_weights(target, path)
    assert torch.equal(target.weight, torch.load(path)['weight'])
    assert target.relative_position_index.tolist() == [0, 1, 2, 3]
