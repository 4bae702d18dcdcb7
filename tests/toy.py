# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A tiny CMID model and batches for tests."""

import torch
from mmpretrain.registry import MODELS


def toy_config(bands: int = 3, size: int = 64, **changes) -> dict:
    """Config of a CMID with a thin ResNet-18, BatchNorm everywhere."""
    config = dict(
        type='CMID',
        encoder=dict(
            backbone=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
            insert_after='maxpool',
            channels=8,
            stride=4,
        ),
        heads=dict(
            reconstruction=dict(type='ReconstructionHead', in_channels=64),
            contrastive=dict(
                type='MoCoHead',
                in_channels=64,
                hidden_channels=32,
                out_channels=16,
                queue_size=24,
            ),
            assignment=dict(
                type='AssignmentHead',
                in_channels=64,
                hidden_channels=32,
                bottleneck_channels=16,
                num_prototypes=32,
                num_matches=2,
            ),
        ),
        data_preprocessor=dict(mean=[100.0] * bands, std=[50.0] * bands),
    )
    config.update(changes)
    return config


def toy_model(**changes) -> torch.nn.Module:
    """Build and initialise a toy CMID in training mode."""
    torch.manual_seed(1)
    model = MODELS.build(toy_config(**changes))
    model.init_weights()
    return model.train()


def toy_batch(batch: int = 4, bands: int = 3, size: int = 64, patch: int = 16) -> dict:
    """Packed random view pairs with overlapping crops."""
    generator = torch.Generator().manual_seed(3)
    cells = size // patch
    boxes = torch.rand(batch, 2, 5, generator=generator)
    boxes[..., :2] *= 0.2 * size
    boxes[..., 2:4] = (0.6 + 0.2 * boxes[..., 2:4]) * size
    boxes[..., 4] = (boxes[..., 4] > 0.5).float()
    inputs = torch.randint(0, 256, (batch, 2, bands, size, size), generator=generator)
    masks = torch.rand(batch, 2, cells, cells, generator=generator) < 0.6
    return dict(
        inputs=inputs.byte(), masks=masks, boxes=boxes, index=torch.arange(batch)
    )


#: ``arch`` of a vision transformer of four blocks.
SMALL_VIT = dict(embed_dims=48, num_layers=4, num_heads=2, feedforward_channels=96)


def toy_bit(bands: int, base_channels: int) -> dict:
    """Config of a BIT change detector with a thin ResNet-18, without preprocessor."""
    return dict(
        type='SiameseEncoderDecoder',
        backbone=dict(
            type='mmpretrain.ResNet',
            depth=18,
            in_channels=bands,
            base_channels=base_channels,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
        ),
        decode_head=dict(
            type='BITHead', in_channels=4 * base_channels, decoder_depth=1
        ),
        test_cfg=dict(mode='whole'),
    )
