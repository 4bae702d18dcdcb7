# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every change detection config: the method's numbers, and parts that run."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    init_default_scope,
)
from mmengine.runner import Runner

from cmid_mm.engine import launch
from cmid_mm.engine.run_length import set_run_length
from cmid_mm.images.writing import write_image
from tests.datasets.windowed.ground import write_scenes
from tests.toy import SMALL_VIT

pytest.importorskip('mmseg')

FOLDER = Path(__file__).parents[1] / 'configs' / 'change_detection'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
PUBLISHED = [name for name in CONFIGS if name.endswith(('cdd', 'levir-cd'))]


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def write_set(root: Path, label_dir: str, count: int = 4, size: int = 64) -> None:
    generator = np.random.default_rng(0)
    for part in ('train', 'val', 'test'):
        for i in range(count):
            images = generator.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
            for folder, image in zip(('A', 'B'), images, strict=True):
                write_image(root / part / folder / f'{i}.png', image)
            mask = np.zeros((size, size), np.uint8)
            mask[:, size // 2 :] = 255
            write_image(root / part / label_dir / f'{i}.png', mask)


def small(cfg: Config, root: Path) -> Config:
    """Point a config at small data, and make crops and windows as small."""
    init_default_scope(cfg.default_scope)
    if cfg.train_dataloader.dataset.type == 'WindowedChangeDetection':
        for part in ('train', 'val', 'test'):
            write_scenes(root, cfg[f'{part}_dataloader'].dataset)
        cfg.train_dataloader.dataset.window = 48
    else:
        write_set(root, cfg.train_dataloader.dataset.get('label_dir', 'label'))
    launch.set_data_root(cfg, str(root))
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform['type'] == 'RandomCrop':
            transform['crop_size'] = (48, 48)
    cfg.model.data_preprocessor.size = (48, 48)
    if cfg.model.test_cfg.mode == 'slide':
        cfg.model.test_cfg.update(crop_size=(48, 48), stride=(32, 32))
    if 'RVSA' in cfg.model.backbone.type:
        cfg.model.backbone.update(embed_dims=48, depth=3)
        cfg.model.decode_head.in_channels = 48
    elif 'VisionTransformer' in cfg.model.backbone.type:
        cfg.model.backbone.update(arch=SMALL_VIT, img_size=48)
        cfg.model.decode_head.in_channels = 48
    return cfg


def test_the_promised_configs_exist():
    promised = {
        'bit_r50_cdd',
        'bit_swin-b_cdd',
        'bit_r50_levir-cd',
        'bit_swin-b_levir-cd',
        'bit_rvsa-vit-b_levir-cd',
        'bit_rvsa-vitae-b_levir-cd',
        'bit_vit-b_cdd',
        'bit_rvsa-vit-b_cdd',
        'bit_rvsa-vitae-b_cdd',
        'bit_r50_folder',
        'bit_r18_demo',
        'bit_r18_windows',
    }
    assert promised == set(CONFIGS)


@pytest.mark.parametrize('name', CONFIGS)
def test_trains_a_step_and_predicts(name, tmp_path):
    cfg = small(load(name), tmp_path)
    model = MODELS.build(cfg.model)
    model.init_weights()
    train = DATASETS.build(cfg.train_dataloader.dataset)
    batch = pseudo_collate([train[0], train[1]])
    assert batch['inputs'][0].shape == (6, 48, 48)
    assert batch['inputs'][0].dtype == torch.uint8
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = next(model.backbone.parameters()).clone()
    log = model.train().train_step(batch, optim_wrapper)
    assert 0.1 < log['decode.loss_ce'] < 3
    assert not torch.equal(before, next(model.backbone.parameters()))
    test = DATASETS.build(cfg.test_dataloader.dataset)
    evaluator = Evaluator(cfg.test_evaluator)
    model.eval()
    with torch.no_grad():
        samples = model.test_step(pseudo_collate([test[0]]))
        assert samples[0].pred_sem_seg.shape == (64, 64)
        evaluator.process(samples)
        # tools/test.py --tta
        tta = MODELS.build(dict(cfg.tta_model, module=model))
        pipeline = [TRANSFORMS.build(step) for step in cfg.tta_pipeline]
        views = test.get_data_info(0)
        for step in pipeline:
            views = step(views)
        assert len(views['inputs']) == 3
        (merged,) = tta.test_step(pseudo_collate([views]))
    evaluator.process([merged])
    scores = evaluator.evaluate(2)
    assert set(scores) == {'F1', 'IoU', 'precision', 'recall', 'OA', 'mF1_batch8'}


def test_demo_runs_from_training_to_the_best_checkpoint(tmp_path):
    cfg = small(load('bit_r18_demo'), tmp_path / 'data')
    cfg.work_dir = str(tmp_path / 'run')
    set_run_length(cfg, max_iters=2)
    cfg.default_hooks.checkpoint.interval = 2
    # A class in this bit of training comes out at random; F1 may be NaN.
    cfg.default_hooks.checkpoint.save_best = 'OA'
    cfg.vis_backends = cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
    assert (tmp_path / 'run' / 'best_OA_iter_2.pth').is_file()


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_settings(name):
    cfg = load(name)
    _, backbone, dataset = name.split('_', 2)
    assert cfg.prepared_by == dataset
    assert cfg.train_cfg.max_epochs == 200
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.auto_scale_lr.base_batch_size == 8
    optimizer = cfg.optim_wrapper.optimizer
    if backbone == 'r50':
        assert optimizer == dict(type='SGD', lr=0.002, momentum=0.99, weight_decay=5e-4)
    else:
        assert optimizer == dict(type='AdamW', lr=6e-5, weight_decay=0.01)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'clip_grad' not in cfg.optim_wrapper
    scheduler = cfg.param_scheduler
    assert (scheduler.type, scheduler.power) == ('PolyLR', 1.0)
    assert (scheduler.eta_min, scheduler.end) == (0, 200)
    preprocessor = cfg.model.data_preprocessor
    assert (preprocessor.mean, preprocessor.std) == ([0.0], [255.0])
    head = cfg.model.decode_head
    assert (head.type, head.channels) == ('BITHead', 32)
    assert head.loss_decode.type == 'CrossEntropyLoss'
    assert 'class_weight' not in head.loss_decode
    pipeline = {
        (step.type, step.get('direction')): step
        for step in cfg.train_dataloader.dataset.pipeline
    }
    assert pipeline['RandomCrop', None].crop_size == (256, 256)
    assert ('RandomFlip', 'horizontal') in pipeline
    assert ('RandomFlip', 'vertical') in pipeline
    assert ('RandomRotate90', None) in pipeline
    assert len(pipeline) == 7
    if dataset == 'cdd':
        assert cfg.train_dataloader.dataset.label_dir == 'OUT'
        assert cfg.model.test_cfg.mode == 'whole'
    else:
        assert cfg.model.test_cfg == dict(
            mode='slide', crop_size=(256, 256), stride=(256, 256)
        )
        assert cfg.test_dataloader.batch_size == 1
    assert cfg.test_dataloader.dataset.split == 'test'
    assert cfg.val_dataloader.dataset.split == 'val'


@pytest.mark.parametrize(
    ('name', 'channels', 'blocks'),
    [('bit_r50_cdd', 1024, 3), ('bit_swin-b_cdd', 512, 3)],
)
def test_backbones_give_their_third_stage(name, channels, blocks):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    backbone = MODELS.build(cfg.model.backbone)
    with torch.no_grad():
        (features,) = backbone(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, channels, 4, 4)
    assert cfg.model.decode_head.in_channels == channels


def test_rate_falls_linearly_to_nothing():
    cfg = load('bit_r50_cdd')
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.002)
    settings = {**cfg.param_scheduler, 'end': 11, 'convert_to_iter_based': False}
    scheduler = PARAM_SCHEDULERS.build(settings, default_args=dict(optimizer=optimizer))
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(rates, 0.002 * (1 - np.arange(11) / 10), atol=1e-12)


def example(number: int, folder: Path) -> Config:
    """A config that stands in the README, put beside the others' path."""
    text = (FOLDER / 'README.md').read_text(encoding='utf-8')
    code = text.split('```python\n')[number].split('```')[0]
    file = folder / 'example.py'
    file.write_text(code.replace("_base_ = '", f"_base_ = '{FOLDER.as_posix()}/"))
    cfg = Config.fromfile(file)
    init_default_scope(cfg.default_scope)
    return cfg


def test_readme_example_of_more_bands(tmp_path):
    cfg = example(1, tmp_path)
    for part, value in (('A', 1000), ('B', 3000)):
        (tmp_path / 'train' / part).mkdir(parents=True)
        profile = dict(width=8, height=8, count=8, dtype='uint16')
        with rasterio.open(tmp_path / 'train' / part / '0.tif', 'w', **profile) as file:
            file.write(np.full((8, 8, 8), value, np.uint16))
    write_image(tmp_path / 'train' / 'label' / '0.png', np.zeros((8, 8), np.uint8))
    launch.set_data_root(cfg, str(tmp_path))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert dataset[0]['inputs'].shape == (16, 8, 8)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[0].num_bands == 8
    model = MODELS.build(cfg.model)
    inputs = model.data_preprocessor(pseudo_collate([dataset[0]]), training=True)
    assert inputs['inputs'][:, 8:, :8, :8].mean() == pytest.approx(0.75)
    assert model(inputs['inputs'][..., :32, :32]).shape == (1, 2, 32, 32)


def test_readme_example_of_another_backbone(tmp_path):
    cfg = example(2, tmp_path)
    backbone = MODELS.build(cfg.model.backbone)
    with torch.no_grad():
        (features,) = backbone(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, cfg.model.decode_head.in_channels, 4, 4)
