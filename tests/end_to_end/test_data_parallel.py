# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Two processes with half the batch each equal one process with the whole."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from torch import nn
from torch.multiprocessing.spawn import spawn

from tests.toy import toy_batch, toy_config

STEPS, BATCH = 3, 4


def build(spectrum: str) -> nn.Module:
    """A CMID without BatchNorm: ConvNeXt with LayerNorm, transformer's head."""
    import cmid_mm  # noqa: F401  (in the spawned process)

    torch.manual_seed(1)
    config = toy_config()
    config['encoder'] = dict(
        backbone=dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 64]),
            gap_before_final_norm=False,
        ),
        insert_after='downsample_layers.0',
        channels=8,
        stride=4,
    )
    heads = copy.deepcopy(config['heads'])
    heads['assignment']['batch_norm'] = False
    # Not a multiple of the keys of a step, so that the queue wraps within one.
    heads['contrastive']['queue_size'] = 21
    heads['reconstruction']['frequency_loss'] = dict(
        type='FocalFrequencyLoss', spectrum=spectrum
    )
    config['heads'] = heads
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def train(model: nn.Module, wrapped: nn.Module, part: slice) -> dict:
    """Train some steps on a part of each batch; return the state."""
    optimizer = OptimWrapper(
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    )
    whole = toy_batch(batch=STEPS * BATCH)
    # As many masked cells in each image, as MaskPair makes them.
    whole['masks'] = whole['masks'].flatten(2).sort(-1).values
    whole['masks'][..., :6], whole['masks'][..., 6:] = False, True
    whole['masks'] = whole['masks'].unflatten(2, (4, 4))
    for step in range(STEPS):
        rows = range(BATCH * step, BATCH * (step + 1))[part]
        batch = {key: value[list(rows)] for key, value in whole.items()}
        wrapped.train_step(batch, optimizer)
        model.update_teacher(0.9)
    return model.state_dict()


def worker(rank: int, folder: str, spectrum: str) -> None:
    """Train in one of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    model = build(spectrum)
    wrapped = MMDistributedDataParallel(model)
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    torch.save(train(model, wrapped, half), Path(folder, f'{rank}.pth'))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('spectrum', ['batch_mean', 'per_image'])
def test_two_processes_equal_one(tmp_path, spectrum):
    spawn(worker, (str(tmp_path), spectrum), nprocs=2)
    model = build(spectrum)
    before = copy.deepcopy(model.state_dict())
    expected = train(model, model, slice(None))
    ranks = [torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in (0, 1)]
    moved = 0
    for name, value in expected.items():
        moved += not torch.equal(value, before[name])
        for state in ranks:
            if name == 'heads.contrastive.queue':
                # The ranks' keys interleave differently: the same set of columns.
                distance = torch.cdist(value.t(), state[name].t())
                assert distance.min(1).values.max() < 1e-4
                assert torch.equal(state[name], ranks[0][name])
            else:
                torch.testing.assert_close(
                    state[name], value, rtol=1e-4, atol=1e-6, msg=name
                )
    assert moved > 0.9 * len(before)
