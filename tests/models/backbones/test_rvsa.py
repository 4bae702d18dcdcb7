# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""RVSA backbones: released names, blocks against loops, sizes, outputs."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import WindowMSA
from torch import Tensor, nn

from cmid_mm.models import MaskedEncoder, RVSAViT, RVSAViTAE
from tests.models.backbones.test_rotated_window_attention import (
    randomize,
    slow_map_attention,
    slow_window_attention,
)

KEYS = Path(__file__).parents[2] / 'data' / 'official_keys'
TINY = dict(img_size=96, embed_dims=16, depth=4, num_heads=2, window_size=3)
BOTH = pytest.mark.parametrize('kind', [RVSAViT, RVSAViTAE])


def released(name: str) -> dict[str, Tensor]:
    """Tensors without content, by the names and with the shapes of a release."""
    state = {}
    for line in (KEYS / f'{name}.tsv').read_text().splitlines():
        key, shape, dtype = line.split('\t')
        size = [] if shape == 'scalar' else [int(side) for side in shape.split('x')]
        state[key] = torch.empty(size, dtype=getattr(torch, dtype), device='meta')
    return state


def tiny(kind: type[RVSAViT] = RVSAViT, **kwargs) -> RVSAViT:
    """A small backbone in which nothing is zero, with statistics of its own."""
    model = randomize(kind(**{**TINY, **kwargs})).eval()
    generator = torch.Generator().manual_seed(2)
    for name, value in model.named_buffers():
        if 'running' in name:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model


def images(*size: int, batch: int = 1, bands: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, bands, *size, generator=generator, dtype=torch.double)


# -- Names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ('kind', 'name'), [(RVSAViT, 'vit_b_rvsa'), (RVSAViTAE, 'vitae_b_rvsa')]
)
def test_strict_load_of_the_release(kind, name):
    state = released(name)
    head = {key for key in state if key.startswith('head.')}
    with torch.device('meta'):
        model = kind()
    model.load_state_dict(
        {k: v for k, v in state.items() if k not in head}, strict=True
    )
    # The head of its classifiers is not the backbone's.
    assert head == {key for key in state if key not in model.state_dict()}
    assert {k: v.dtype for k, v in model.state_dict().items()} == {
        k: v.dtype for k, v in state.items() if k not in head
    }


def test_index_of_the_bias_table_is_swins():
    index = RVSAViT(**TINY).blocks[0].attn.relative_position_index
    swin = WindowMSA(8, (3, 3), 1).relative_position_index
    assert torch.equal(index, swin)


def test_initial_weights():
    model = RVSAViT(**{**TINY, 'depth': 6})
    for index, block in enumerate(model.blocks):
        assert hasattr(block.attn, 'sampling_angles') == (index not in (2, 5))
        assert 0.01 < block.attn.proj.weight.std() < 0.03
        assert not block.attn.qkv.bias.any()
    assert 0.01 < model.pos_embed.std() < 0.03


# -- A block ---------------------------------------------------------------------


def slow_convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3 x 3 convolution in groups, (C, H, W), number by number."""
    _, height, width = x.shape
    per_group = layer.in_channels // layer.groups
    outputs = layer.out_channels // layer.groups
    values, kernel = x.tolist(), layer.weight.tolist()
    result = [
        [[layer.bias[o].item()] * width for _ in range(height)]
        for o in range(layer.out_channels)
    ]
    for o, plane in enumerate(result):
        for row in range(height):
            for column in range(width):
                for i in range(per_group):
                    source = values[o // outputs * per_group + i]
                    for dy in range(3):
                        for dx in range(3):
                            y, x_ = row + dy - 1, column + dx - 1
                            if 0 <= y < height and 0 <= x_ < width:
                                plane[row][column] += (
                                    kernel[o][i][dy][dx] * source[y][x_]
                                )
    return torch.tensor(result, dtype=x.dtype)


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * layer.weight + layer.bias


@torch.no_grad()
def slow_block(block: nn.Module, x: Tensor) -> Tensor:
    """The result for one map (H, W, C)."""
    is_window = hasattr(block.attn, 'window_size')
    attend = slow_window_attention if is_window else slow_map_attention
    result = x + attend(block.attn, norm(block.norm1, x))
    if block.PCM is not None:
        widen, batch_norm, _, narrow = block.PCM
        hidden = slow_convolution(widen, x.permute(2, 0, 1))
        scale = batch_norm.weight / (batch_norm.running_var + batch_norm.eps).sqrt()
        hidden = hidden - batch_norm.running_mean[:, None, None]
        hidden = hidden * scale[:, None, None] + batch_norm.bias[:, None, None]
        hidden = hidden * torch.sigmoid(hidden)
        result = result + slow_convolution(narrow, hidden).permute(1, 2, 0)
    hidden = block.mlp.fc1(norm(block.norm2, result))
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    return result + block.mlp.fc2(hidden)


@BOTH
@pytest.mark.parametrize('index', [0, 2])
def test_block_against_the_loops(kind, index):
    model = tiny(kind, img_size=(48, 64), embed_dims=8)
    x = torch.randn(1, 3, 4, 8, dtype=torch.double)
    block = model.blocks[index]
    expected = slow_block(block, x[0])
    torch.testing.assert_close(block(x)[0], expected, rtol=0, atol=1e-9)
    single = block.float()(x.float())[0]
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5)


@BOTH
def test_backbone_against_the_loops(kind):
    model = tiny(kind, img_size=64, embed_dims=8, out_indices=(1, 3))
    x = images(64, 64)
    patches = F.unfold(x, 16, stride=16)[0].t()  # 16 positions, 3 * 256
    kernel = model.patch_embed.proj.weight.flatten(1)
    cells = patches @ kernel.t() + model.patch_embed.proj.bias
    cells = (cells + model.pos_embed[0, 1:]).reshape(4, 4, 8)
    expected = []
    for index, block in enumerate(model.blocks):
        cells = slow_block(block, cells)
        if index == 1:
            expected.append(cells)
    expected.append(norm(model.norm, cells))
    for found, wanted in zip(model(x), expected, strict=True):
        torch.testing.assert_close(found[0], wanted.permute(2, 0, 1), rtol=0, atol=1e-8)


@BOTH
def test_every_parameter_gets_its_part_of_the_gradient(kind):
    model = tiny(kind, out_type='pyramid', out_indices=(0, 1, 2, 3)).train()
    sum(features.square().mean() for features in model(images(90, 75))).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


# -- Sizes -----------------------------------------------------------------------


def test_position_embedding_is_interpolated_without_the_first_place():
    model = tiny(img_size=64)
    with torch.no_grad():
        model.pos_embed.zero_()
        model.pos_embed[:, 0] = 1e6  # nobody reads it
        rows = torch.arange(4.0).repeat_interleave(4)
        model.pos_embed[0, 1:, 0] = rows.double()
    same = model._position_embedding(4, 4)
    assert torch.equal(same[0, :, :, 0], rows.reshape(4, 4).double())
    other = model._position_embedding(8, 6)
    assert other.shape == (1, 8, 6, 16)
    assert other.abs().max() < 4
    # Between the rows; all columns alike.
    assert other[0, 3:5, 0, 0].tolist() == pytest.approx([1.25, 1.75], abs=0.05)
    assert (other[0, :, :, 0] - other[0, :, :1, 0]).abs().max() < 1e-5


def test_larger_images_use_the_same_tables():
    """A backbone for larger images with resized tables computes the same."""
    model = tiny()
    x = images(160, 128)
    larger = tiny(img_size=(160, 128))
    state = model.state_dict()
    state['pos_embed'] = torch.cat(
        (state['pos_embed'][:, :1], model._position_embedding(10, 8).flatten(1, 2)), 1
    )
    for axis, length in (('h', 19), ('w', 15)):
        name = f'blocks.2.attn.rel_pos_{axis}'
        state[name] = F.interpolate(state[name].t()[None], length, mode='linear')[0].t()
    larger.load_state_dict(state)
    torch.testing.assert_close(model(x)[0], larger(x)[0])


@BOTH
@pytest.mark.parametrize('size', [(96, 96), (97, 80), (40, 250), (16, 16), (7, 30)])
def test_shapes_of_every_output(kind, size):
    x = images(*size)
    (single,) = tiny(kind)(x)
    assert single.shape == (1, 16, *(-(-side // 16) for side in size))
    (pooled,) = tiny(kind, out_type='avg_featmap')(x)
    assert pooled.shape == (1, 16)
    pyramid = tiny(kind, out_type='pyramid', out_indices=(0, 1, 2, 3))(x)
    for features, stride in zip(pyramid, (4, 8, 16, 32), strict=True):
        assert features.shape == (1, 16, *(-(-side // stride) for side in size))
        assert features.isfinite().all()


def test_padding_of_the_image_is_zero_at_the_right_and_bottom():
    model = tiny()
    x = images(70, 90)
    torch.testing.assert_close(model(x)[0], model(F.pad(x, (0, 6, 0, 10)))[0])


def test_any_number_of_bands():
    model = tiny(in_channels=8)
    x = images(48, 48, bands=8)
    changed = x.clone()
    changed[:, 7] += 1
    assert (model(x)[0] - model(changed)[0]).abs().max() > 1e-3


# -- Outputs ---------------------------------------------------------------------


def test_maps_are_those_of_the_blocks_and_the_last_is_normalised():
    x = images(96, 96)
    model = tiny(out_indices=(-4, 1, 3))
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda m, i, output: seen.append(output))
    first, second, last = model(x)
    torch.testing.assert_close(first, seen[0].permute(0, 3, 1, 2))
    torch.testing.assert_close(second, seen[1].permute(0, 3, 1, 2))
    torch.testing.assert_close(last.permute(0, 2, 3, 1), norm(model.norm, seen[3]))
    bare = tiny(final_norm=False)
    torch.testing.assert_close(bare(x)[0], seen[3].permute(0, 3, 1, 2))
    assert not any(name.startswith('norm.') for name in bare.state_dict())
    pooled = tiny(out_type='avg_featmap')
    mean = seen[3].mean((1, 2))
    torch.testing.assert_close(pooled(x)[0], norm(model.norm, mean))


def test_pyramid_is_made_of_the_maps():
    x = images(96, 96)
    maps = tiny(out_indices=(0, 1, 2, 3))(x)
    model = tiny(out_type='pyramid', out_indices=(0, 1, 2, 3))
    up4, up2, same, down2 = model(x)
    torch.testing.assert_close(up4, model.fpn1(maps[0]))
    torch.testing.assert_close(up2, model.fpn2(maps[1]))
    torch.testing.assert_close(same, maps[2])
    torch.testing.assert_close(down2, F.max_pool2d(maps[3], 2))
    names = {n for n in model.state_dict() if n.startswith('fpn')}
    modules = ('fpn1.0', 'fpn1.1.ln', 'fpn1.3', 'fpn2.0')
    assert names == {f'{m}.{part}' for m in modules for part in ('weight', 'bias')}


def test_one_map_can_feed_all_levels():
    model = tiny(out_type='pyramid', out_indices=(3, 3, 3, 3))
    torch.testing.assert_close(model(images(96, 96))[2], tiny()(images(96, 96))[0])


@BOTH
def test_recomputing_changes_no_gradient(kind):
    x = images(60, 60, batch=2)
    gradients = []
    for with_cp in (False, True):
        model = tiny(kind, with_cp=with_cp).train()
        model(x)[0].square().sum().backward()
        gradients.append({k: p.grad for k, p in model.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_drop_path_rises_with_depth_and_drops_branches_apart():
    model = RVSAViTAE(**TINY, drop_path_rate=0.3)
    rates = [block.drop_path.drop_prob for block in model.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    torch.manual_seed(0)
    block = tiny(RVSAViTAE, drop_path_rate=0.5).blocks[3].train()
    block.mlp = nn.Identity()  # leaves the two branches
    block.PCM[1].eval()
    x = torch.randn(1, 6, 6, 16, dtype=torch.double)
    seen = {round(block(x).sum().item(), 6) for _ in range(64)}
    assert len(seen) == 8  # attention, convolutions, feed-forward: each there or not


def test_layer_depths():
    model = RVSAViT(**TINY)
    names = {
        'backbone.pos_embed': 0,
        'backbone.patch_embed.proj.weight': 0,
        'backbone.blocks.0.norm1.bias': 1,
        'backbone.blocks.3.attn.qkv.weight': 4,
        'backbone.norm.weight': 5,
        'backbone.fpn1.0.weight': 5,
        'blocks.0.head.weight': 5,
    }
    for name, depth in names.items():
        assert model.get_layer_depth(name, 'backbone.') == (depth, 6)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(out_type='maps'), "'avg_featmap' or 'pyramid', got 'maps'"),
        (dict(interval=1), 'interval must be at least 2, got 1'),
        (dict(out_indices=(0, 4)), r'must be in -4 to 3, got \(0, 4\)'),
        (dict(out_type='pyramid'), 'needs four out_indices.*got -1'),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        RVSAViT(**{**TINY, **change})


# -- With the mask token ---------------------------------------------------------


@BOTH
def test_mask_token_enters_before_the_position_embedding(kind):
    encoder = MaskedEncoder(
        tiny(kind), insert_after='patch_embed', channels=16, stride=16, mode='replace'
    ).double()
    x = images(64, 96)
    mask = torch.zeros(1, 2, 3, dtype=torch.bool)
    mask[0, 1, 2] = True
    other = x.clone()
    other[:, :, 32:, 64:] += 1  # only what the token replaces
    assert encoder(x, mask).shape == (1, 16, 4, 6)
    torch.testing.assert_close(encoder(x, mask), encoder(other, mask))
    all_masked = encoder(x, torch.ones_like(mask))
    assert all_masked.std((2, 3)).min() > 1e-3  # the positions still tell
