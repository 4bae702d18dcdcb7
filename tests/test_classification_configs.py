# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every classification config: the method's numbers, and a training step."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from cmid_mm.engine.run_length import set_run_length
from tests.toy import SMALL_VIT

FOLDER = Path(__file__).parents[1] / 'configs' / 'classification'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
SETS = {'ucmerced': 21, 'aid': 30, 'resisc45': 45, 'eurosat': 10}
FINE_TUNING = [f'{name}_{data}' for name in ('resnet50', 'swin-b') for data in SETS]
UC_MERCED = Path(__file__).parents[1] / 'cmid_mm' / 'preparation' / 'splits'


def load(name: str) -> Config:
    return Config.fromfile(FOLDER / f'{name}.py')


def write_scenes(root: Path, classes, train: int = 2, test: int = 1) -> None:
    """Noisy images of a few pixels in the layout of the config."""
    rng = np.random.default_rng(0)
    lists = {'train': [], 'test': []}
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(train + test):
            image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            cv2.imwrite(str(root / name / f'{index}.png'), image)
            part = 'train' if index < train else 'test'
            lists[part].append(f'{name}/{index}.png')
    for part, names in lists.items():
        (root / f'{part}.txt').write_text('\n'.join(names))


def shrink(cfg: Config, root: Path | None, work_dir: Path) -> Config:
    """One training step of two images, a validation of two; data unless there."""
    kind = DATASETS.get(cfg.train_dataloader.dataset.type)
    if root is None:
        root = Path(cfg.train_dataloader.dataset.data_root)
    elif cfg.train_dataloader.dataset.get('data_prefix') == 'train':  # the demo
        for part in ('train', 'test'):
            write_scenes(root / part, [f'class{i}' for i in range(8)])
    else:
        write_scenes(root, kind.METAINFO['classes'])
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[name]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), indices=2)
    unit = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    set_run_length(cfg, **{unit: 1})
    if cfg.model.backbone.type == 'ResNet':
        small = {'RandomResizedCrop': 'scale', 'ResizeEdge': 'scale'}
        small['CenterCrop'] = 'crop_size'
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            for step in cfg[name].dataset.pipeline:
                if step.type in small:
                    step[small[step.type]] = 64
    elif 'RVSA' in cfg.model.backbone.type:
        cfg.model.backbone.update(embed_dims=48, depth=3)
        cfg.model.head.in_channels = 48
    elif cfg.model.backbone.type == 'VisionTransformer':
        cfg.model.backbone.arch = SMALL_VIT
        cfg.model.head.in_channels = 48
    else:
        # One block a stage; test_published_backbones builds all of them.
        cfg.model.backbone.arch = dict(
            embed_dims=128, depths=[1] * 4, num_heads=[4, 8, 16, 32]
        )
    cfg.default_hooks.checkpoint = None
    cfg.visualizer.vis_backends = []
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    cfg.log_level = 'WARNING'
    return cfg


def test_the_promised_configs_exist():
    promised = {
        *FINE_TUNING,
        *('resnet50_linear_ucmerced', 'swin-b_linear_ucmerced'),
        *('resnet50_fewshot_ucmerced', 'swin-b_fewshot_ucmerced'),
        *('resnet18_ucmerced', 'resnet18_demo'),
        *('vit-b_ucmerced', 'rvsa-vit-b_ucmerced', 'rvsa-vitae-b_ucmerced'),
    }
    assert promised == set(CONFIGS)


@pytest.fixture(autouse=True)
def _no_config_dumps(monkeypatch):
    """Formatting the config takes longer than a step."""
    monkeypatch.setattr(Runner, 'dump_config', lambda self: None)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env: None)


@pytest.mark.parametrize('name', CONFIGS)
def test_trains_and_validates(name, tmp_path):
    cfg = shrink(load(name), tmp_path / 'data', tmp_path / f'work-{name}')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 1
    weights = runner.model.head.fc.weight
    classes = runner.val_dataloader.dataset.metainfo['classes']
    assert len(weights) == len(classes) == cfg.data_preprocessor.num_classes
    assert weights.isfinite().all()
    assert len(runner.message_hub.get_scalar('val/accuracy/OA').data[0]) == 1


def test_a_test_writes_the_confusion_matrix(tmp_path):
    cfg = shrink(load('resnet18_demo'), tmp_path / 'data', tmp_path / 'work-test')
    metrics = Runner.from_cfg(cfg).test()
    assert 0 <= metrics['accuracy/OA'] <= 100
    folder = Path(cfg.work_dir, 'vis_data')
    lines = (folder / 'confusion_matrix.csv').read_text().splitlines()
    assert len(lines) == 1 + 8
    assert min(cv2.imread(str(folder / 'confusion_matrix.png')).shape[:2]) > 500


@pytest.mark.parametrize('wrong', ['model.head', 'data_preprocessor'])
def test_wrong_number_of_classes_is_refused(wrong, tmp_path):
    cfg = shrink(load('resnet18_demo'), tmp_path / 'data', tmp_path / f'work-{wrong}')
    cfg.merge_from_dict({f'{wrong}.num_classes': 9})
    message = rf'{wrong}\.num_classes is 9, but the data set has 8 classes \(class0, '
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ValueError, match=message):
        runner.train()
    with pytest.raises(ValueError, match=message):
        runner.test()


@pytest.mark.parametrize('name', FINE_TUNING)
def test_published_settings(name):
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == 200
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.end) == ('LinearLR', 5)
    assert cosine.type == 'CosineAnnealingLR'
    assert (cosine.begin, cosine.end, cosine.eta_min) == (5, 200, 1e-6)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'BlockwiseAdan'
    assert (optimizer.lr, optimizer.weight_decay) == (3.125e-3, 0.02)
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.model.backbone.get('drop_path_rate') == (
        0.5 if name.startswith('swin') else None
    )
    assert cfg.model.head.loss == dict(
        type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'
    )
    assert cfg.model.train_cfg.augments == [
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]
    assert 'probs' not in cfg.model.train_cfg  # equal odds
    assert cfg.val_dataloader.drop_last is cfg.test_dataloader.drop_last is False
    assert cfg.val_dataloader.sampler.shuffle is False

    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomResizedCrop'].scale == 224
    assert steps['RandomResizedCrop'].interpolation == 'bicubic'
    augment = steps['RandAugment']
    assert augment.policies == 'timm_increasing'
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    assert (augment.num_policies, augment.total_level) == (2, 10)
    erasing = steps['RandomErasing']
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    assert erasing.fill_color == cfg.data_preprocessor.mean
    assert erasing.fill_std == cfg.data_preprocessor.std
    steps = {step.type: step for step in cfg.test_dataloader.dataset.pipeline}
    assert (steps['ResizeEdge'].scale, steps['ResizeEdge'].edge) == (256, 'short')
    assert steps['ResizeEdge'].interpolation == 'bicubic'
    assert steps['CenterCrop'].crop_size == 224
    assert cfg.prepared_by == name.rpartition('_')[2]


def test_statistics_are_those_of_the_pre_training():
    pretraining = Config.fromfile(
        FOLDER.parent / 'cmid' / 'cmid_r50_millionaid.py'
    ).data_preprocessor
    for name in CONFIGS:
        found = load(name).data_preprocessor
        assert (found.mean, found.std) == (pretraining.mean, pretraining.std)
        assert 'to_rgb' not in found  # LoadImagery loads RGB


def test_published_backbones_are_those_of_the_pre_training():
    for name in ('r50', 'swin-b'):
        pretraining = Config.fromfile(
            FOLDER.parent / 'cmid' / f'cmid_{name}_millionaid.py'
        )
        student = MODELS.build(pretraining.model.encoder.backbone)
        cfg = load({'r50': 'resnet50'}.get(name, name) + '_ucmerced')
        tuned = MODELS.build(cfg.model.backbone)
        assert {k: v.shape for k, v in tuned.state_dict().items()} == {
            k: v.shape for k, v in student.state_dict().items()
        }


def test_all_420_test_images_are_scored(tmp_path):
    names = (UC_MERCED / 'ucmerced_test.txt').read_text().split()
    image = np.zeros((4, 4, 3), np.uint8)
    for name in names:
        file = tmp_path / f'{name}.png'
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), image)
    (tmp_path / 'test.txt').write_text('\n'.join(f'{name}.png' for name in names))
    cfg = load('resnet50_ucmerced')
    loader_cfg = cfg.test_dataloader
    loader_cfg.dataset.data_root = str(tmp_path)
    loader_cfg.dataset.pipeline = [dict(type='LoadImagery'), dict(type='PackInputs')]
    loader_cfg.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader_cfg)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = loader.dataset.metainfo
    for batch in loader:
        samples = [
            sample.set_pred_label(sample.gt_label).to_dict()
            for sample in batch['data_samples']
        ]
        metric.process(batch, samples)
    assert metric.evaluate(len(loader.dataset))['accuracy/OA'] == 100
    assert metric.matrix.sum() == 420


@pytest.mark.parametrize('name', ['resnet50_linear_ucmerced', 'swin-b_linear_ucmerced'])
def test_linear_probe_changes_nothing_of_the_backbone(name, tmp_path):
    cfg = shrink(load(name), tmp_path / 'data', tmp_path / f'probe-{name}')
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    state = {k: v.clone() for k, v in runner.model.state_dict().items()}
    # As if pre-trained: statistics that a batch would change.
    for key, value in state.items():
        if key.endswith('running_mean') and key.startswith('backbone'):
            value.add_(0.01)
    runner.model.load_state_dict(state)
    runner.model.init_weights = lambda: None
    runner.train()
    assert not any(
        module.training
        for module in runner.model.backbone.modules()
        if not list(module.children())
    )
    after = runner.model.state_dict()
    changed = {
        key for key, value in state.items() if not torch.equal(after[key], value)
    }
    assert changed == {
        'head.fc.weight',
        'head.fc.bias',
        *(f'neck.1.bn.{n}' for n in ('running_mean', 'running_var')),
        'neck.1.bn.num_batches_tracked',
    }


def test_few_shot_uses_a_tenth_of_each_class_whatever_the_epochs(tmp_path):
    for name in ('resnet50', 'swin-b'):
        cfg = load(f'{name}_fewshot_ucmerced')
        assert cfg.train_cfg == dict(by_epoch=False, max_iters=2000, val_interval=500)
        assert all(step.by_epoch is False for step in cfg.param_scheduler)
        assert cfg.param_scheduler[-1].end == 2000
        dataset_cfg = cfg.train_dataloader.dataset
        root = tmp_path / name
        write_scenes(root, DATASETS.get(dataset_cfg.type).METAINFO['classes'], train=80)
        dataset = DATASETS.build({**dataset_cfg, 'data_root': str(root)})
        assert np.bincount(dataset.get_gt_labels()).tolist() == [8] * 21


def test_the_readmes_example_of_own_multi_band_scenes_trains(tmp_path):
    """Seven classes of eight-band GeoTIFFs, by the two examples together."""
    text = (FOLDER / 'README.md').read_text()
    example = '\n'.join(re.findall(r'```python\n(.*?)```', text, re.DOTALL))
    for old, new in (
        ("'resnet50_ucmerced.py'", repr(str(FOLDER / 'resnet50_ucmerced.py'))),
        ("'data/my_scenes'", repr(str(tmp_path / 'scenes'))),
        ('mean=[...], std=[...]', 'mean=[90.0] * 8, std=[40.0] * 8'),
    ):
        assert old in example
        example = example.replace(old, new)
    # One file has one of each setting.
    example = example.replace('data_preprocessor = dict(num_classes=num_classes)\n', '')
    example = example.replace('std=[40.0] * 8', 'std=[40.0] * 8, num_classes=7')
    example = example.replace('model = dict(head=dict(num_classes=num_classes))\n', '')
    example = example.replace(
        'model = dict(', 'model = dict(head=dict(num_classes=7), '
    )
    example += (
        'train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))\n'
        'val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))\n'
        'test_dataloader = val_dataloader\n'
    )
    (tmp_path / 'mine.py').write_text(example)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    write_scenes(tmp_path / 'scenes', [f'class{i}' for i in range(7)])
    rng = np.random.default_rng(0)
    for png in (tmp_path / 'scenes').rglob('*.png'):
        png.unlink()
        pixels = rng.integers(0, 4000, (8, 30, 34)).astype(np.uint16)
        profile = dict(driver='GTiff', count=8, height=30, width=34, dtype='uint16')
        with rasterio.open(png.with_suffix('.tif'), 'w', **profile) as file:
            file.write(pixels)
    for part in ('train', 'test'):
        file = tmp_path / 'scenes' / f'{part}.txt'
        file.write_text(file.read_text().replace('.png', '.tif'))
    cfg = shrink(cfg, None, tmp_path / 'work-mine')
    cfg.model.backbone.depth = 18
    cfg.model.head.in_channels = 512
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.model.backbone.conv1.in_channels == 8
    assert len(runner.model.head.fc.weight) == 7
