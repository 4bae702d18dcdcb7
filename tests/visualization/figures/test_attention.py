# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from cmid_mm.visualization.figures.attention import (
    attention_figure,
    attention_layers,
    attention_of,
)
from tests.toy import SMALL_VIT

from .made import CELL, colour_encoder, colours, write_cells


def vit(**options):
    config = dict(arch=SMALL_VIT, img_size=64, patch_size=16, out_type='featmap')
    backbone = MODELS.build(dict(type='VisionTransformer', **config, **options))
    backbone.eval()  # returns nothing
    return backbone


def swin(depth=2):
    arch = dict(embed_dims=8, depths=[depth], num_heads=[2])
    backbone = MODELS.build(
        dict(
            type='SwinTransformer',
            arch=arch,
            img_size=64,
            window_size=4,
            out_indices=(0,),
            pad_small_map=True,
        )
    )
    backbone.eval()
    return backbone


def test_weights_of_a_vit_are_those_of_its_layer():
    backbone = vit()
    images = torch.randn(1, 3, 64, 96)
    module = attention_layers(backbone)[2][1]
    recorded = []

    def record(query, key, value, **options):
        every = torch.eye(key.shape[-2]).expand(*key.shape[:2], -1, -1)
        recorded.append(F.scaled_dot_product_attention(query, key, every))
        return F.scaled_dot_product_attention(query, key, value, **options)

    module.scaled_dot_product_attention = record
    found = {
        query: attention_of(backbone, images, 2, query).maps
        for query in ('mean', 'class', (0.99, 0.3))
    }
    weights = recorded[0][0]  # heads, class token and 4 x 6 patches
    assert found['mean'].shape == (2, 4, 6)
    torch.testing.assert_close(found['mean'].flatten(1), weights[:, 1:, 1:].mean(1))
    torch.testing.assert_close(found['class'].flatten(1), weights[:, 0, 1:])
    # The second row, the last column.
    torch.testing.assert_close(found[0.99, 0.3].flatten(1), weights[:, 1 + 11, 1:])
    # With the class token it sums to one.
    total = found['class'].sum((1, 2)) + weights[:, 0, 0]
    torch.testing.assert_close(total, torch.ones(2))


def test_no_class_token_and_no_layer():
    images = torch.randn(1, 3, 64, 64)
    with pytest.raises(ValueError, match='SwinTransformer has no class token'):
        attention_of(swin(), images, query='class')
    with pytest.raises(ValueError, match='has no class token'):
        attention_of(vit(with_cls_token=False), images, query='class')
    with pytest.raises(ValueError, match='has 4 layers .* there is no layer 4'):
        attention_of(vit(), images, 4)


@pytest.mark.parametrize('layer', [0, 1])
def test_windows_of_swin_are_where_they_were(layer):
    backbone = swin()
    module = attention_layers(backbone)[layer][1]
    assert module.shift_size == 2 * layer
    # Every position looks at itself alone.
    table = module.w_msa.relative_position_bias_table.data
    table.fill_(-1e4)
    table[len(table) // 2] = 1e4
    images = torch.randn(1, 3, 64, 48)  # 16 x 12 positions
    found = attention_of(backbone, images, layer, (7.5 / 12, 10.5 / 16))
    expected = torch.zeros(16, 12)
    expected[10, 7] = 1
    torch.testing.assert_close(found.maps[0].nan_to_num(), expected)
    known = ~found.maps[0].isnan()
    first = 2 * layer
    rows, columns = torch.nonzero(known).T
    # The window that holds row 10 and column 7.
    assert rows.min() == (10 - first) // 4 * 4 + first
    assert columns.min() == (7 - first) // 4 * 4 + first
    assert known.sum() == 16
    # On average each position gets one part in as many as there are.
    mean = attention_of(backbone, images, layer).maps
    torch.testing.assert_close(mean, torch.ones(2, 16, 12))


def test_attention_of_a_window_sums_to_its_positions():
    found = attention_of(swin(), torch.randn(1, 3, 64, 64), 0)
    sums = found.maps.unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))
    torch.testing.assert_close(sums, torch.full((2, 4, 4), 16.0))
    assert (found.window, found.shift) == (4, 0)


def test_others_show_the_norm_of_features_by_its_name(tmp_path):
    cells = colours(2, 3)
    path = write_cells(tmp_path / 'a.png', cells)
    figure = attention_figure(colour_encoder(), [path])
    picture, norm, bar = figure.axes
    assert bar.get_xlabel() == 'norm of the features'
    expected = np.linalg.norm(cells.astype(float) - 127.5, axis=-1)
    np.testing.assert_allclose(norm.images[0].get_array(), expected, rtol=1e-5)
    low, high = expected.min(), expected.max()
    assert norm.get_title() == f'feature norm\n{low:.2g} \N{EN DASH} {high:.2g}'
    assert norm.get_xlim() == (0, 3 * CELL)


def test_a_figure_of_heads(tmp_path):
    encoder = colour_encoder()
    encoder.model.backbone = vit()
    path = write_cells(tmp_path / 'a.png', colours(2, 2))
    figure = attention_figure(encoder, [path], heads=[1], point=(20, 40))
    titles = [ax.get_title().partition('\n')[0] for ax in figure.axes[:-1]]
    assert titles == ['a', 'mean of 2', 'head 1']
    assert figure.axes[-1].get_xlabel() == 'attention, 1: even'
    values = figure.axes[1].images[0].get_array()
    # What is missing goes to the class token.
    assert values.shape == (4, 4) and 8 < values.sum() < 16
    encoder.model.backbone = swin()
    figure = attention_figure(encoder, [path], point=(20, 40))
    values = figure.axes[1].images[0].get_array()
    assert values.count() == 16 and values.sum() == pytest.approx(16, rel=1e-5)
    ends = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert ends == ['least of each map', 'largest']
    with pytest.raises(ValueError, match='heads 0 to 1, not 2'):
        attention_figure(encoder, [path], heads=[2])
