# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.engine.optimizers.adan_t import Adan

from cmid_mm.engine.optimizers import BlockwiseAdan, flat_blocks
from tests.toy import toy_model


@pytest.mark.parametrize('no_prox', [False, True])
def test_blockwise_step_equals_the_reference(no_prox, monkeypatch):
    monkeypatch.setattr(BlockwiseAdan, 'block_size', 1000)
    shapes = [(60, 50), (7,), (8, 3, 5, 5), ()]
    mine = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    mine[2] = torch.nn.Parameter(mine[2].detach().to(memory_format=torch.channels_last))
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    args = dict(lr=1e-2, weight_decay=0.02, no_prox=no_prox)
    optimizers = BlockwiseAdan(mine, **args), Adan(theirs, foreach=False, **args)
    for _ in range(5):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert len(optimizers[1].state[b]) >= 3  # the moments
        for name, value in optimizers[1].state[b].items():
            torch.testing.assert_close(
                optimizers[0].state[a][name], value, rtol=1e-5, atol=1e-6
            )


def test_state_continues_after_reloading():
    parameter = torch.nn.Parameter(torch.randn(20, 30))
    copy = torch.nn.Parameter(parameter.detach().clone())
    grads = [torch.randn(20, 30) for _ in range(4)]
    whole = BlockwiseAdan([parameter], lr=1e-2)
    parts = BlockwiseAdan([copy], lr=1e-2)
    for step, grad in enumerate(grads):
        if step == 2:
            state = parts.state_dict()
            parts = BlockwiseAdan([copy], lr=1e-2)
            parts.load_state_dict(state)
        parameter.grad, copy.grad = grad.clone(), grad.clone()
        whole.step()
        parts.step()
    assert torch.equal(parameter, copy)


def test_parameters_without_gradient_stay():
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = BlockwiseAdan(parameters, lr=0.1)
    parameters[0].grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(parameters[1], torch.ones(3))
    assert not torch.equal(parameters[0], torch.ones(3))


def test_blocks_share_memory_and_cover_the_tensor():
    tensor = torch.zeros(4, 3, 5, 5).to(memory_format=torch.channels_last)
    (blocks,) = flat_blocks([tensor], 70)
    assert [block.numel() for block in blocks] == [70, 70, 70, 70, 20]
    for block in blocks:
        block.add_(1)
    assert torch.equal(tensor, torch.ones_like(tensor))
    other_order = torch.zeros(4, 3, 5, 5)
    assert [len(b) for b in flat_blocks([tensor, other_order], 70)] == [1, 1]


def test_only_matrices_and_kernels_are_decayed():
    model = toy_model()
    wrapper = build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='MatrixDecayConstructor',
            optimizer=dict(type='BlockwiseAdan', lr=1e-3, weight_decay=0.02),
        ),
    )
    decay = {
        id(p): group['weight_decay']
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }
    names = dict(model.named_parameters())
    assert len(decay) == sum(p.requires_grad for p in names.values())
    for name, parameter in names.items():
        if name.startswith('teacher') or '.teacher_' in name:
            assert id(parameter) not in decay
        elif parameter.requires_grad:
            expected = 0.02 if parameter.ndim > 1 else 0.0
            assert decay[id(parameter)] == expected, name
    assert decay[id(model.student.mask_token)] == 0.0
    assert decay[id(names['heads.reconstruction.decoder.0.weight'])] == 0.02


def test_bfloat16_wrapper_computes_in_bfloat16_and_steps_in_float32():
    model = torch.nn.Linear(8, 4)
    before = model.weight.detach().clone()
    config = dict(
        type='BFloat16OptimWrapper', optimizer=dict(type='SGD', lr=0.5, momentum=0.9)
    )
    wrapper = build_optim_wrapper(model, config)
    images = torch.randn(3, 8)
    with wrapper.optim_context(model):
        output = model(images)
    assert output.dtype == torch.bfloat16
    assert model(images).dtype == torch.float32  # outside again
    wrapper.update_params(output.float().sum())
    expected = before - 0.5 * images.sum(0)
    torch.testing.assert_close(model.weight, expected, rtol=2e-2, atol=2e-2)
    assert model.weight.dtype == torch.float32
    # No scale of the loss, nor its state, as float16 needs.
    assert set(wrapper.state_dict()) == set(wrapper.optimizer.state_dict())


def test_bfloat16_wrapper_accumulates():
    model = torch.nn.Linear(2, 1)
    config = dict(
        type='BFloat16OptimWrapper',
        accumulative_counts=2,
        optimizer=dict(type='SGD', lr=1.0),
    )
    wrapper = build_optim_wrapper(model, config)
    wrapper.initialize_count_status(model, 0, 4)
    before = model.weight.detach().clone()
    for moved in (False, True):
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 2)).sum()
        wrapper.update_params(loss)
        assert torch.equal(model.weight, before) != moved


@pytest.mark.parametrize(
    'make',
    [
        lambda: torch.randn(60, 50).t(),
        lambda: torch.randn(60, 100)[:, ::2],
        lambda: torch.randn(60, 50, dtype=torch.float64),
        lambda: torch.randn(4, 30, 25).permute(2, 0, 1),
    ],
    ids=['transposed', 'strided', 'double', 'permuted'],
)
def test_blockwise_step_of_any_layout_and_type(make, monkeypatch):
    # Larger than a block, and a gradient in another memory order.
    monkeypatch.setattr(BlockwiseAdan, 'block_size', 1000)
    tensor = make()
    mine, theirs = torch.nn.Parameter(tensor), torch.nn.Parameter(tensor.clone())
    args = dict(lr=1e-2, weight_decay=0.02)
    optimizers = BlockwiseAdan([mine], **args), Adan([theirs], foreach=False, **args)
    for _ in range(3):
        mine.grad = torch.randn(tensor.shape, dtype=tensor.dtype)
        theirs.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
