# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The configs of configs/baselines with tiny networks, for tests."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmpretrain.registry import MODELS

FOLDER = Path(__file__).parents[1] / 'configs' / 'baselines'
SMALL = (
    'a2mim_r18_scenes',
    'barlowtwins_r18_scenes',
    'byol_r18_scenes',
    'densecl_r18_scenes',
    'mae_vit-tiny_scenes',
    'mocov2_r18_scenes',
    'simclr_r18_scenes',
    'simmim_swin-tiny_scenes',
    'simsiam_r18_scenes',
    'swav_r18_scenes',
)
#: A queue that is not a multiple of the batch of tests.
QUEUE = 21


def toy_baseline(name: str) -> Config:
    """A config with a network for images of 64 pixels in cells of 16."""
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    model = cfg.model
    if model.type == 'MAE':
        arch = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
        model.backbone.update(arch=arch, img_size=64, patch_size=16)
        model.neck.update(
            num_patches=16,
            patch_size=16,
            embed_dim=24,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
        )
        model.head.patch_size = 16
    elif model.type == 'SimMIM':
        arch = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
        windows = [dict(block_cfgs=dict(window_size=side)) for side in (4, 4, 4, 2)]
        model.backbone.update(arch=arch, img_size=64, stage_cfgs=windows)
        model.neck.in_channels = 64
    else:
        _shrink_resnet(model)
    return cfg


def _shrink_resnet(model) -> None:
    thin = dict(depth=18, stem_channels=8, base_channels=8)
    if model.type == 'CMID':
        model.encoder.backbone.update(thin)
        model.encoder.channels = 8
        model.heads.reconstruction.in_channels = 64
        return
    model.backbone.update(thin)
    model.neck.update(in_channels=64, hid_channels=32)
    if model.type in ('BarlowTwins', 'SimSiam'):
        model.neck.out_channels = 32
    if model.type == 'BarlowTwins':
        model.head.in_channels = 32
    if 'predictor' in model.head:
        width = model.neck.out_channels
        model.head.predictor.update(
            in_channels=width, hid_channels=32, out_channels=width
        )
    if 'queue_len' in model or 'MoCo' in model.type or 'DenseCL' in model.type:
        model.queue_len = QUEUE
    if model.type == 'SwAV':
        model.head.loss.update(num_prototypes=16, queue_length=QUEUE)


def build(cfg: Config) -> torch.nn.Module:
    """Build and initialise the model of a config, for a run of 100 iterations."""
    MessageHub.get_current_instance().update_info('max_iters', 100)
    torch.manual_seed(1)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    if hasattr(model, 'teacher_is_updated'):
        model.teacher_is_updated = True  # what CMID's hook does
    return model.train()
