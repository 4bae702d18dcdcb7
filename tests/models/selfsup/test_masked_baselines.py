# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from cmid_mm.models import SimMIMDecoder
from cmid_mm.overrides import merge_options
from tests.toy import toy_batch
from tests.toy_baselines import build, toy_baseline


@pytest.mark.parametrize('bands', [1, 3, 5])
def test_decoder_gives_all_bands(bands):
    decoder = SimMIMDecoder(in_channels=6, encoder_stride=8, num_bands=bands)
    assert decoder(torch.randn(2, 6, 3, 3)).shape == (2, bands, 24, 24)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        (
            'mae_vit-tiny_scenes',
            {
                'model.backbone.patch_cfg.in_channels': 4,
                'model.neck.in_chans': 4,
                'model.head.in_channels': 4,
            },
        ),
        (
            'simmim_swin-tiny_scenes',
            {
                'model.backbone.in_channels': 4,
                'model.neck.num_bands': 4,
                'model.head.loss.channel': 4,
            },
        ),
    ],
)
def test_other_bands(name, changes):
    cfg = toy_baseline(name)
    merge_options(cfg, changes)
    cfg.data_preprocessor.update(mean=[100.0] * 4, std=[50.0] * 4)
    model = build(cfg)
    batch = toy_batch(bands=4)
    losses = []
    for value in (0, 255):
        batch['inputs'][:, :, 3] = value  # the band that is not a colour
        torch.manual_seed(0)
        losses.append(model(**model.data_preprocessor(batch), mode='loss')['loss'])
    assert losses[0].isfinite()
    assert losses[0] != losses[1]


def test_simmim_is_masked_where_the_pipeline_says():
    """Only masked pixels count, and the network does not see them."""
    model = build(toy_baseline('simmim_swin-tiny_scenes')).eval()
    batch = toy_batch()
    masked = (
        batch['masks'].repeat_interleave(16, 2).repeat_interleave(16, 3)[:, :, None]
    )
    masked = masked.expand_as(batch['inputs'])

    def loss(inputs: torch.Tensor) -> torch.Tensor:
        data = model.data_preprocessor({**batch, 'inputs': inputs})
        return model(**data, mode='loss')['loss']

    seen = []
    model.backbone.patch_embed.register_forward_hook(lambda *args: seen.append(args[2]))
    hidden = batch['inputs'].clone()
    hidden[masked] = 0
    first, second = loss(batch['inputs']), loss(hidden)
    assert first != second  # the target changed
    data = [
        model.data_preprocessor({**batch, 'inputs': x})
        for x in (batch['inputs'], hidden)
    ]
    mask = torch.stack([sample.mask for sample in data[0]['data_samples']])
    outputs = [model.neck(model.backbone(x['inputs'], mask)[-1]) for x in data]
    torch.testing.assert_close(*outputs)
    # Ratio of the masks: whole cells of 16 pixels, in patches of 4.
    cells = batch['masks'].transpose(0, 1).flatten(0, 1)
    assert torch.equal(mask[:, ::4, ::4].bool(), cells)
    assert mask.shape[1:] == (16, 16)
