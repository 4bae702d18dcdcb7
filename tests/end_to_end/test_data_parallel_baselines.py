# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""SwAV's and SimCLR's gradients in two processes are those of one."""

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

pytestmark = pytest.mark.slow
BATCH, STEPS = 8, 4
SWAV = dict(feat_dim=6, num_prototypes=5, epsilon=0.5)
LOSSES = {
    'mine': dict(type='QueuedSwAVLoss', queue_length=9, queue_start_epoch=0, **SWAV),
    'theirs': dict(type='SwAVLoss', **SWAV),
}
SIMCLR = {'mine': 'DataParallelSimCLR', 'theirs': 'SimCLR'}


class Encoder(nn.Module):
    """A network without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.conv(images),)


class Neck(nn.Module):
    """Features of the right shape for SwAV's and SimCLR's losses."""

    def forward(self, features) -> tuple[Tensor]:
        return (F.normalize(features[0].flatten(1), dim=1),)


class SwAV(nn.Module):
    """Encoder and SwAV's loss."""

    def __init__(self, loss: dict) -> None:
        super().__init__()
        self.encoder, self.neck = Encoder(), Neck()
        self.loss = MODELS.build(loss)

    def forward(self, views: list[Tensor]) -> Tensor:
        return self.loss(self.neck(self.encoder(torch.cat(views)))[0])


class SimCLR(nn.Module):
    """mmpretrain's algorithm with these parts."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        head = dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'))
        parts = dict(backbone=Encoder(), neck=Neck(), head=head)
        self.model = MODELS.build(dict(type=kind, **parts))

    def forward(self, views: list[Tensor]) -> Tensor:
        return self.model.loss(views, None)['loss']


def results(part: slice, wrap) -> dict[str, list[Tensor]]:
    """Gradients of each method over some steps, and SwAV's queue."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(STEPS, 2, BATCH, 3, 4, 4, generator=generator)
    MessageHub.get_instance('run').update_info('epoch', 0)
    found: dict[str, list[Tensor]] = {}
    for kind in ('mine', 'theirs'):
        torch.manual_seed(1)
        for model in (SwAV(LOSSES[kind]), SimCLR(SIMCLR[kind])):
            wrapped = wrap(model)
            gradients = []
            for views in steps:
                model.zero_grad()
                wrapped([view[part] for view in views]).backward()
                gradients += [p.grad.clone() for p in model.parameters()]
            found[f'{kind} {type(model).__name__}'] = gradients
            if kind == 'mine' and isinstance(model, SwAV):
                found['queue'] = [model.loss.feature_queue]
    return found


def worker(rank: int, folder: str) -> None:
    """One of two processes with half the images each."""
    import cmid_mm  # noqa: F401

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    torch.save(results(half, MMDistributedDataParallel), Path(folder, f'{rank}.pth'))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """Results of one process, and of each of two."""
    folder = tmp_path_factory.mktemp('processes')
    spawn(worker, (str(folder),), nprocs=2)
    two = [torch.load(folder / f'{rank}.pth', weights_only=True) for rank in (0, 1)]
    whole = results(slice(None), lambda model: model)
    kinds = [
        f'{kind} {name}' for kind in ('mine', 'theirs') for name in ('SwAV', 'SimCLR')
    ]
    assert all(len(whole[kind]) >= STEPS for kind in kinds)  # of every step
    return whole, *two


@pytest.mark.parametrize('name', ['SwAV', 'SimCLR'])
def test_two_processes_equal_one(found, name):
    whole, *halves = found
    for half in halves:
        for expected, value in zip(
            whole[f'mine {name}'], half[f'mine {name}'], strict=True
        ):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', ['SwAV', 'SimCLR'])
def test_mmpretrains_still_do_not(found, name):
    """When this fails, the repair can go."""
    whole, half, _ = found
    assert not any(
        torch.allclose(expected, value, rtol=1e-2)
        for expected, value in zip(
            whole[f'theirs {name}'], half[f'theirs {name}'], strict=True
        )
    )


def test_simclrs_gradient_is_half(found):
    whole, half, _ = found
    for expected, value in zip(
        whole['theirs SimCLR'], half['theirs SimCLR'], strict=True
    ):
        torch.testing.assert_close(2 * value, expected, rtol=1e-4, atol=1e-6)


def test_queue_is_common(found):
    whole, *halves = found
    for half in halves:
        torch.testing.assert_close(half['queue'], whole['queue'])
        assert half['queue'][0].any(2).all()  # full, so it was used
