# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every baseline: CMID's data, the published settings, mmpretrain's losses."""

import copy
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from cmid_mm.configs import packaged_config
from cmid_mm.models.data_preprocessor import upsample_mask
from tests.toy import toy_batch
from tests.toy_baselines import FOLDER, SMALL, build, toy_baseline

CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
RESNETS = 'a2mim barlowtwins byol densecl mocov2 simclr simsiam swav'.split()
METHODS = [*(f'{name}_r50' for name in RESNETS), 'mae_vit-b', 'simmim_swin-b']
PUBLISHED = [f'{name}_{data}' for name in METHODS for data in ('millionaid', 'potsdam')]
#: mmpretrain's configs, and the images that their learning rates are meant for.
SHIPPED = {
    'barlowtwins_r50': ('barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e', 2048),
    'byol_r50': ('byol/byol_resnet50_16xb256-coslr-200e', 4096),
    'densecl_r50': ('densecl/densecl_resnet50_8xb32-coslr-200e', 256),
    'mae_vit-b': ('mae/mae_vit-base-p16_8xb512-amp-coslr-400e', 4096),
    'mocov2_r50': ('mocov2/mocov2_resnet50_8xb32-coslr-200e', 256),
    'simclr_r50': ('simclr/simclr_resnet50_16xb256-coslr-200e', 4096),
    'simmim_swin-b': ('simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e', 2048),
    'simsiam_r50': ('simsiam/simsiam_resnet50_8xb32-coslr-200e', 256),
    'swav_r50': ('swav/swav_resnet50_8xb32-mcrop-coslr-200e', 256),
}


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def shipped(method: str) -> Config:
    suffix = {'swav_r50': '-224px-96px', 'simmim_swin-b': '-192px'}.get(method, '')
    name = f'{SHIPPED[method][0]}_in1k{suffix}.py'
    return Config.fromfile(packaged_config(f'mmpretrain::{name}'))


def test_every_method_has_its_configs():
    assert set(CONFIGS) == {*SMALL, *PUBLISHED}


def test_readme_lists_every_config_and_its_example_loads(tmp_path):
    page = (FOLDER / 'README.md').read_text(encoding='utf-8')
    listed = re.findall(r'`(\w[\w-]+_(?:millionaid|potsdam|scenes))\.py`', page)
    assert sorted(listed) == CONFIGS
    (example,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    (tmp_path / 'example.py').write_text(example)
    cfg = Config.fromfile(tmp_path / 'example.py')
    assert cfg.model.backbone.type == 'mmpretrain.VisionTransformer'
    assert cfg.train_dataloader.batch_size == 8


@pytest.mark.parametrize('name', CONFIGS)
def test_data_are_cmids(name):
    data = name.rpartition('_')[2]
    cmid = 'cmid_r18_scenes' if data == 'scenes' else f'cmid_r50_{data}'
    cmid = Config.fromfile(FOLDER.parent / 'cmid' / f'{cmid}.py')
    cfg = load(name)
    # The share of masked cells belongs to the method.
    for pipeline in (part.train_dataloader.dataset.pipeline for part in (cfg, cmid)):
        next(t for t in pipeline if t.type == 'MaskPair').pop('ratio', None)
    assert cfg.train_dataloader == cmid.train_dataloader
    assert cfg.data_preprocessor.mean == cmid.data_preprocessor.mean
    assert cfg.data_preprocessor.std == cmid.data_preprocessor.std
    assert cfg.train_cfg == cmid.train_cfg
    # Small variants differ in the model only.
    if data == 'scenes':
        assert cfg.optim_wrapper == cmid.optim_wrapper
        assert cfg.param_scheduler == cmid.param_scheduler


@pytest.mark.parametrize('name', [n for n in CONFIGS if n.startswith('mae')])
def test_mae_fits_the_images(name):
    cfg = load(name)
    backbone, neck, head = cfg.model.backbone, cfg.model.neck, cfg.model.head
    assert backbone.img_size == cfg.image_size
    assert neck.num_patches == (cfg.image_size // backbone.patch_size) ** 2
    assert backbone.patch_size == neck.patch_size == head.patch_size


@pytest.mark.parametrize('name', [n for n in CONFIGS if n.startswith('simmim')])
def test_simmim_fits_the_images(name):
    cfg = load(name)
    (mask,) = (t for t in cfg.train_pipeline if t.type == 'MaskPair')
    assert cfg.model.backbone.img_size == cfg.image_size
    assert cfg.data_preprocessor.mask_stride == cfg.model.head.patch_size == 4
    assert mask.patch_size % 4 == 0
    assert cfg.image_size % cfg.model.neck.encoder_stride == 0


@pytest.mark.parametrize('name', ['mae_vit-tiny_scenes', 'simmim_swin-tiny_scenes'])
def test_tiny_transformers_take_their_images(name):
    model = build(load(name)).eval()
    with torch.no_grad():
        features = model.extract_feat(torch.randn(1, 3, 96, 96))
    shapes = {'MAE': (1, 1 + 144, 192), 'SimMIM': (1, 512, 3, 3)}
    assert features[-1].shape == shapes[type(model).__name__]


@pytest.mark.parametrize('name', CONFIGS)
def test_one_training_step(name):
    cfg = toy_baseline(name)
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    model = build(cfg)
    batch = toy_batch()
    losses = model(**model.data_preprocessor(batch), mode='loss')
    model.parse_losses(losses)[0].backward()
    trained = {k: v for k, v in model.named_parameters() if v.requires_grad}
    # Data parallelism waits for the gradient of each.
    assert [name for name, value in trained.items() if value.grad is None] == []
    model.zero_grad()

    wrapper = dict(copy.deepcopy(cfg.optim_wrapper), type='OptimWrapper')
    wrapper.pop('loss_scale', None)
    optimizer = build_optim_wrapper(model, wrapper)
    before = {name: value.detach().clone() for name, value in trained.items()}
    model.train_step(batch, optimizer)
    state = model.state_dict()
    moved = [
        name for name, value in before.items() if not torch.equal(value, state[name])
    ]
    # Residual branches that start at zero hold back the gradient of their insides.
    assert len(moved) > 0.7 * len(trained)
    assert all(value.isfinite().all() for value in state.values())


# -- Published settings ------------------------------------------------------------


@pytest.mark.parametrize('name', [n for n in PUBLISHED if not n.startswith('a2mim')])
def test_optimiser_is_the_shipped_one_for_this_batch(name):
    method = name.rpartition('_')[0]
    cfg, source = load(name), shipped(method)
    ours, theirs = dict(cfg.optim_wrapper.optimizer), source.optim_wrapper.optimizer
    # Both views of an image are images to methods that take one at a time.
    images = 512 if cfg.data_preprocessor.get('stack_views') else 256
    assert ours.pop('lr') == pytest.approx(
        theirs.pop('lr') * images / SHIPPED[method][1]
    )
    assert ours == theirs
    assert cfg.optim_wrapper.get('clip_grad') == source.optim_wrapper.get('clip_grad')
    keys = source.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
    keys.pop('absolute_pos_embed', None)  # Swin has none
    assert cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {}) == keys
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.train_dataloader.batch_size == 64
    assert cfg.get('sync_bn') == ('torch' if 'SyncBN' in source.pretty_text else None)


@pytest.mark.parametrize('name', PUBLISHED)
def test_schedule(name):
    cfg = load(name)
    epochs = 400 if name.endswith('potsdam') else 200
    assert cfg.train_cfg.max_epochs == cfg.max_epochs == epochs
    *warmup, cosine = cfg.param_scheduler
    assert cosine.end == epochs
    assert cosine.get('begin', 0) == (warmup[0].end if warmup else 0)
    if name.startswith('a2mim'):
        return
    *shipped_warmup, shipped_cosine = shipped(name.rpartition('_')[0]).param_scheduler
    assert len(warmup) == len(shipped_warmup)
    if warmup:
        assert warmup[0].end == shipped_warmup[0].end
        assert warmup[0].start_factor == pytest.approx(shipped_warmup[0].start_factor)
    final = {'barlowtwins': 1e-3, 'swav': 1e-3, 'simmim': 0.05}.get(name.split('_')[0])
    assert cosine.get('eta_min_ratio') == final
    theirs = shipped(name.rpartition('_')[0])
    floor = shipped_cosine.get('eta_min', 0) / theirs.optim_wrapper.optimizer.lr
    assert (final or 0) == pytest.approx(floor)


@pytest.mark.parametrize('method', sorted(SHIPPED))
def test_networks_are_the_shipped_ones(method, build_shapes):
    if method == 'simmim_swin-b':  # other windows for other images, hence tables
        ours, theirs = load(f'{method}_potsdam').model, shipped(method).model
        assert ours.backbone.arch == theirs.backbone.arch
        assert ours.neck.encoder_stride == theirs.neck.encoder_stride
        assert ours.head == theirs.head
        return
    shapes = []
    for cfg in (load(f'{method}_millionaid'), shipped(method)):
        state = build_shapes(cfg).state_dict()
        state.pop('head.loss_module.feature_queue', None)
        shapes.append({name: value.shape for name, value in state.items()})
    assert shapes[0] == shapes[1]


def test_other_settings(build_shapes):
    def model(method):
        return build_shapes(load(f'{method}_millionaid'))

    for method in ('mocov2_r50', 'densecl_r50'):
        moco = model(method)
        assert moco.head.temperature == 0.2
        assert moco.encoder_k.momentum == 0.001
        assert moco.queue.shape == (128, 65536)
    assert model('densecl_r50').loss_lambda == 0.5
    hooks = load('densecl_r50_millionaid').custom_hooks
    assert next(h for h in hooks if h.type == 'DenseCLHook').start_iters == 1000
    assert model('byol_r50').target_net.momentum == 0.01
    assert model('simclr_r50').head.temperature == 0.1
    assert model('barlowtwins_r50').head.loss_module.lambd == 0.0051
    swav = model('swav_r50').head.loss_module
    assert (swav.epsilon, swav.temperature, swav.sinkhorn_iterations) == (0.05, 0.1, 3)
    assert swav.feature_queue.shape == (2, 3840, 128)
    assert (swav.queue_start_epoch, swav.frozen_epochs) == (15, 1)
    mae = model('mae_vit-b')
    assert mae.backbone.mask_ratio == 0.75
    assert mae.head.norm_pix
    simmim = load('simmim_swin-b_millionaid')
    assert simmim.model.backbone.drop_path_rate == 0
    masks = next(t for t in simmim.train_pipeline if t.type == 'MaskPair')
    assert (masks.patch_size, masks.get('ratio', 0.6)) == (32, 0.6)
    small = load('a2mim_r18_scenes').train_dataloader.dataset.pipeline
    assert next(t for t in small if t.type == 'MaskPair').ratio == 0.6
    a2mim = model('a2mim_r50')
    assert list(a2mim.heads) == ['reconstruction']
    assert a2mim.teacher is None


# -- Losses ------------------------------------------------------------------------


def unrepaired(cfg: Config) -> dict:
    """The same model of mmpretrain's own parts, and its own preprocessor."""
    model = copy.deepcopy(cfg.model).to_dict()
    parents = {
        'CrossCorrelationHead': 'LatentCrossCorrelationHead',
        'DataParallelSimCLR': 'SimCLR',
        'FlexibleDenseCL': 'DenseCL',
        'FlexibleMoCo': 'MoCo',
        'QueuedSwAVLoss': 'SwAVLoss',
        'SimMIMDecoder': 'SimMIMLinearDecoder',
    }
    for part in (model, model['neck'], model['head'], model['head'].get('loss', {})):
        part['type'] = parents.get(part.get('type'), part.get('type'))
    if model['type'] == 'SwAV':
        for key in ('queue_length', 'queue_start_epoch', 'frozen_epochs'):
            model['head']['loss'].pop(key)
    pixels = {key: cfg.data_preprocessor[key] for key in ('mean', 'std')}
    model['data_preprocessor'] = dict(type='SelfSupDataPreprocessor', **pixels)
    return model


@pytest.mark.parametrize('name', [n for n in SMALL if not n.startswith('a2mim')])
def test_losses_are_mmpretrains(name):
    cfg = toy_baseline(name)
    model = build(cfg)
    if 'queue_len' in cfg.model:
        cfg.model.queue_len = 24  # a multiple of the batch
        model = build(cfg)
    reference = MODELS.build(unrepaired(cfg)).train()
    reference.load_state_dict(model.state_dict(), strict=name != 'swav_r18_scenes')
    batch = toy_batch()
    views = list(batch['inputs'].unbind(1))
    samples = None
    if cfg.model.type in ('MAE', 'SimMIM'):
        views = [torch.cat(views)]
        masks = upsample_mask(torch.cat(batch['masks'].unbind(1)), (16, 16))[:, 0]
        samples = [DataSample(mask=mask.float()) for mask in masks]
    data = reference.data_preprocessor(dict(inputs=views, data_samples=samples), True)
    if samples:
        data['inputs'] = data['inputs'][0]
    for step in range(2):  # the second with what the first one enqueued
        torch.manual_seed(step)
        ours = model(**model.data_preprocessor(batch), mode='loss')
        torch.manual_seed(step)
        theirs = reference(**data, mode='loss')
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5)
