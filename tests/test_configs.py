# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every pre-training config: the method's numbers, and parts that build."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS
from mmpretrain.registry import MODELS
from torch.utils.data import default_collate

from tests.end_to_end.pretraining import write_images

FOLDER = Path(__file__).parents[1] / 'configs' / 'cmid'
#: Of photographs; those of other bands are in test_recipe_configs.py, continued
#: pre-training in test_continued_configs.py.
CONFIGS = sorted(
    path.stem
    for path in FOLDER.glob('*.py')
    if len(Config.fromfile(path).data_preprocessor.mean) == 3
    and not path.stem.startswith('cmid-distil')
)
#: Backbones of few blocks, as wide as those of the configs.
FEW_BLOCKS = {
    'ConvNeXt': dict(depths=[1, 1, 1, 1], channels=[128, 256, 512, 1024]),
    'SwinTransformer': dict(
        embed_dims=128, depths=[2, 2, 2, 2], num_heads=[4, 8, 16, 32]
    ),
    'VisionTransformer': dict(
        embed_dims=768, num_layers=2, num_heads=12, feedforward_channels=3072
    ),
}
PUBLISHED = [name for name in CONFIGS if name.endswith(('millionaid', 'potsdam'))]


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def mask_all_views(cfg: Config) -> None:
    """Leave no view unmasked by chance."""
    for step in cfg.train_dataloader.dataset.pipeline:
        step.pop('share', None)


def test_the_promised_configs_exist():
    promised = {
        'cmid_r50_millionaid',
        'cmid_swin-b_millionaid',
        'cmid_vit-b_millionaid',
        'cmid_convnext-b_millionaid',
        'cmid_rvsa-vit-b_millionaid',
        'cmid_rvsa-vitae-b_millionaid',
        'cmid_r50_potsdam',
        'cmid_swin-b_potsdam',
        'cmid_r18_demo',
        'cmid_r18_scenes',
        'cmid-crops_r18_scenes',
    }
    assert promised <= set(CONFIGS)


@pytest.mark.parametrize('name', CONFIGS)
def test_pipeline_makes_the_samples_that_the_model_wants(name, tmp_path):
    cfg = load(name)
    cfg.train_dataloader.dataset.data_root = str(write_images(tmp_path, count=2))
    mask_all_views(cfg)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    size = cfg.image_size
    assert sample['inputs'].shape == (2, 3, size, size)
    cells = sample['masks'].shape[-1]
    small = name.endswith(('scenes', 'demo')) and 'hiera' not in name
    tenths = 3 if small else 6
    assert sample['masks'].sum((1, 2)).tolist() == [-(-tenths * cells**2 // 10)] * 2
    # The decoder gives back exactly the input's grid.
    assert size % cfg.model.heads.reconstruction.stride == 0
    for hook in cfg.custom_hooks:
        if hook['type'] != 'FeatureEvaluationHook':  # it reads labelled images
            HOOKS.build(hook)


@pytest.mark.parametrize('name', CONFIGS)
def test_one_training_step(name, tmp_path, build_shapes):
    cfg = load(name)
    cfg.train_dataloader.dataset.data_root = str(write_images(tmp_path, count=2))
    mask_all_views(cfg)
    if cfg.model.heads.contrastive.get('queue_size') != 0:
        cfg.model.heads.contrastive.queue_size = 8
    full = {k: v.shape for k, v in build_shapes(cfg).named_parameters()}
    backbone = cfg.model.encoder.backbone
    if 'rvsa' in name:
        backbone.depth = 3  # both kinds of blocks
    elif backbone.type in FEW_BLOCKS and not name.endswith('scenes'):
        backbone.arch = FEW_BLOCKS[backbone.type]
    torch.manual_seed(0)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    # All that is left out are further blocks.
    assert {k: v.shape for k, v in model.named_parameters()}.items() <= full.items()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    wrapper = dict(cfg.optim_wrapper, type='OptimWrapper')  # no AMP on a CPU
    optimizer = build_optim_wrapper(model, wrapper)
    before = {k: v.detach().clone() for k, v in model.student.named_parameters()}
    batch = default_collate([dataset[0], dataset[1]])
    losses = model.train_step(batch, optimizer)
    assert all(value.isfinite().all() for value in losses.values())
    after = dict(model.student.named_parameters())
    unmoved = [k for k, v in before.items() if torch.equal(v, after[k])]
    # Without the scheduler, the step has the full learning rate.
    assert not unmoved
    if any(hook['type'] == 'ReconstructionHook' for hook in cfg.custom_hooks):
        panels = model.reconstruct(batch)
        assert panels['reconstruction'].shape == panels['target'].shape


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_settings(name):
    cfg = load(name)
    epochs = 400 if name.endswith('potsdam') else 200
    assert cfg.train_cfg.max_epochs == epochs
    warmup, cosine = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end) == (0.01, 10)
    assert (cosine.begin, cosine.end, cosine.eta_min) == (10, epochs, 1e-6)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.lr == 0.004
    assert optimizer.betas == (0.98, 0.92, 0.99)
    assert optimizer.weight_decay == 0.02
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert 'clip_grad' not in cfg.optim_wrapper
    assert cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.train_dataloader.batch_size == 64
    mean = [0.33797, 0.3605, 0.3348]
    std = [0.1359, 0.1352, 0.1407]
    assert cfg.data_preprocessor.mean == pytest.approx([255 * m for m in mean], 1e-4)
    assert cfg.data_preprocessor.std == pytest.approx([255 * s for s in std], 1e-4)


def test_defaults_are_the_methods():
    cfg = load('cmid_r50_millionaid')
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    assert model.momentum == 0.996
    moco = model.heads['contrastive']
    assert (moco.temperature, tuple(moco.queue.shape)) == (0.2, (256, 65536))
    assert moco.student_projector[0].out_features == 2048
    local = model.heads['assignment']
    assert (local.num_matches, local.location) == (20, 'pixel')
    assert local.teacher_temperature == (0.04, 0.07)
    assert (local.student_temperature, local.temperature_epochs) == (0.1, 50)
    assert local.center_momentum == 0.9
    assert local.center.shape == (2048,)
    reconstruction = model.heads['reconstruction']
    assert reconstruction.frequency_weight == 1.0
    assert reconstruction.visible_weight == 0.001
    loss = reconstruction.spatial_loss
    assert (loss.beta, loss.gamma) == (0.2, 1.0)
    assert reconstruction.frequency_loss.spectrum == 'batch_mean'
    assert all(head.start_epoch == 0 for head in model.heads.values())
    assert model.student.mode == 'add'
    assert model.student.mask_token.abs().max() == 0
    assert model.data_preprocessor.mask_fill == 'mean'
