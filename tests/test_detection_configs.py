# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every detection config builds, reads data and trains one step."""

import copy
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

pytest.importorskip('mmrotate')
pytest.importorskip('mmcv.ops')

from mmdet.registry import TRANSFORMS
from mmrotate.structures.bbox import RotatedBoxes

from cmid_mm.preparation import prepare
from cmid_mm.preparation.dior import DIORRPreparation
from cmid_mm.preparation.dota import DOTAPreparation
from tests.datasets.windowed.ground import write_scenes
from tests.toy import SMALL_VIT

CONFIGS = Path(__file__).parents[1] / 'configs' / 'detection'
NAMES = sorted(file.stem for file in CONFIGS.glob('*.py'))
DOTA_LABEL = '4 4 40 4 40 22 4 22 {} 0\n70 30 90 30 90 40 70 40 {} 1\n'
DIOR_BOX = ''.join(
    f'<{axis}_{corner}>{value}</{axis}_{corner}>'
    for corner, (x, y) in dict(
        left_top=(5, 6), right_top=(40, 6), right_bottom=(40, 30), left_bottom=(5, 30)
    ).items()
    for axis, value in (('x', x), ('y', y))
)
DIOR_LABEL = (
    '<annotation><size><width>64</width><height>64</height></size><object>'
    f'<name>Ship</name><robndbox>{DIOR_BOX}</robndbox></object></annotation>'
)


def write(path: Path, content: str | np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        cv2.imwrite(str(path), content)


@pytest.fixture(scope='module')
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of each data set, made by the preparation from small downloads."""
    root = tmp_path_factory.mktemp('data')
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    for split, name in (('train', 'P1'), ('val', 'P2'), ('test', 'P3')):
        write(root / 'dota' / split / 'images' / f'{name}.png', image)
        write(root / 'demo' / split / 'images' / f'{name}.png', image)
        write(root / 'dior' / f'{split}.txt', name)
        write(root / 'dior' / 'images' / f'{name}.jpg', image[:64, :64])
        write(root / 'dior' / 'Oriented Bounding Boxes' / f'{name}.xml', DIOR_LABEL)
        label = DOTA_LABEL.format('ship', 'large-vehicle')
        write(root / 'demo' / split / 'labelTxt' / f'{name}.txt', label)
        if split != 'test':
            write(root / 'dota' / split / 'labelTxt' / f'{name}.txt', label)
    dota = DOTAPreparation(size=64, gap=16, complete='no')
    prepare(dota, root / 'dota', root / 'split')
    prepare(DIORRPreparation(complete='no'), root / 'dior', root / 'DIOR')
    windows = Config.fromfile(CONFIGS / 'oriented-rcnn_r18_windows.py')
    for part in ('train', 'val', 'test'):
        write_scenes(root / 'windows', windows[f'{part}_dataloader'].dataset)
    return {
        'demo': root / 'demo',
        'dota': root / 'split',
        'dior': root / 'DIOR',
        'windows': root / 'windows',
    }


def small(name: str, roots: dict[str, Path], work_dir: Path) -> Config:
    """A config on small data, with small images and without worker processes."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.work_dir = str(work_dir)
    kind = next(kind for kind in roots if kind in name)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(loader):
            cfg[loader].update(num_workers=0, persistent_workers=False)
            cfg[loader].dataset.data_root = str(roots[kind])
            for transform in cfg[loader].dataset.pipeline:
                if transform.type == 'mmdet.Resize':
                    transform.scale = (64, 64)
                if transform.type == 'mmdet.RandomCrop':
                    transform.crop_size = (64, 64)
    return cfg


@pytest.mark.parametrize('name', NAMES)
def test_every_config_trains_one_step(
    name: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    cfg = small(name, roots, tmp_path)
    if 'swin' in name and not name.endswith('dota'):
        cfg.model.backbone.depths = [1, 1, 1, 1]  # the same model: once is enough
    if 'rvsa' in name:
        cfg.model.backbone.update(embed_dims=48, depth=4, out_indices=(0, 1, 2, 3))
        cfg.model.neck.in_channels = [48] * 4
    elif '_vit-b' in name:
        cfg.model.backbone.update(arch=SMALL_VIT, img_size=64, out_indices=(0, 1, 2, 3))
        cfg.model.neck[0].embed_dim = 48
        cfg.model.neck[1].in_channels = [48] * 4
    runner = Runner.from_cfg(copy.deepcopy(cfg))
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    assert tuple(batch['inputs'][0].shape[-2:]) == (64, 64)
    weight = runner.model.roi_head.bbox_head.fc_cls.weight
    before = weight.detach().clone()
    runner.model.train()
    logs = runner.model.train_step(batch, wrapper)
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'} <= set(logs)
    assert torch.isfinite(logs['loss'])
    assert not torch.equal(weight, before)
    assert len(runner.build_dataloader(cfg.test_dataloader)) > 0
    assert runner.build_evaluator(cfg.test_evaluator).metrics


@pytest.mark.parametrize('name', [n for n in NAMES if '_r18_' not in n])
def test_published_settings(name: str) -> None:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    optimizer = cfg.optim_wrapper.optimizer
    backbone = cfg.model.backbone
    if 'r50' in name:
        assert (optimizer.type, optimizer.lr, optimizer.momentum) == ('SGD', 0.005, 0.9)
        assert optimizer.weight_decay == 1e-4
        assert (backbone.depth, backbone.frozen_stages) == (50, 1)
        assert backbone.norm_eval
        assert backbone.style == 'pytorch'
    else:
        assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-4)
        assert optimizer.weight_decay == 0.05
        paramwise = cfg.optim_wrapper.paramwise_cfg
        if 'vit' in name:
            assert (backbone.img_size, backbone.drop_path_rate) == (1024, 0.15)
            assert backbone.out_indices == (3, 5, 7, 11)
            assert paramwise.layer_decay_rate == 0.75
            assert paramwise.flat_decay_mult == 0
        else:
            assert (backbone.embed_dims, backbone.drop_path_rate) == (128, 0.3)
            assert not backbone.get('convert_weights')
            assert paramwise.norm_decay_mult == 0
        assert paramwise.custom_keys.relative_position_bias_table.decay_mult == 0
    assert backbone.get('init_cfg') is None
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.train_dataloader.batch_size == 2
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (1 / 3, 500)
    assert not warm_up.by_epoch
    assert (list(steps.milestones), steps.gamma) == ([8, 11], 0.1)
    transforms = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    flip = transforms['mmdet.RandomFlip']
    assert flip.prob == [0.25, 0.25, 0.25]
    assert flip.direction == ['horizontal', 'vertical', 'diagonal']
    side = 800 if 'dior' in name else 1024
    assert tuple(transforms['mmdet.Resize'].scale) == (side, side)
    assert cfg.model.roi_head.bbox_head.bbox_coder.angle_version == 'le90'
    assert cfg.model.roi_head.bbox_head.num_classes == (20 if 'dior' in name else 15)
    if name.endswith('ms'):
        assert transforms['RandomRotate'].rect_obj_labels == [9, 11]
        assert 'split_ms_dota' in cfg.train_dataloader.dataset.data_root
        assert 'split_ms_dota' in cfg.test_dataloader.dataset.data_root


def test_stage_1_is_frozen_and_norms_stay_in_eval(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    runner = Runner.from_cfg(small('oriented-rcnn_r50_dota', roots, tmp_path))
    backbone = runner.model.train().backbone
    assert not backbone.layer1[0].conv1.weight.requires_grad
    assert backbone.layer2[0].conv1.weight.requires_grad
    assert not backbone.layer4[0].bn1.training


def test_dior_boxes_without_area_are_not_trained_on() -> None:
    cfg = Config.fromfile(CONFIGS / 'oriented-rcnn_r50_dior-r.py')
    (step,) = (
        step
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'mmdet.FilterAnnotations'
    )
    boxes = RotatedBoxes([[30.0, 30, 20, 10, 0], [30, 30, 20, 0, 0], [9, 9, 0, 5, 1]])
    labels = np.arange(3)
    transform = TRANSFORMS.build(step)
    found = transform(dict(gt_bboxes=boxes, gt_bboxes_labels=labels))
    assert found['gt_bboxes_labels'].tolist() == [0]
    flat = dict(gt_bboxes=boxes[1:], gt_bboxes_labels=labels[1:])
    assert len(transform(flat)['gt_bboxes']) == 0


def test_test_run_writes_the_submission(roots: dict[str, Path], tmp_path: Path) -> None:
    cfg = small('oriented-rcnn_r50_dota', roots, tmp_path)
    narrow = Config.fromfile(CONFIGS / 'oriented-rcnn_r18_demo.py').model
    narrow.roi_head.bbox_head.num_classes = 15
    narrow.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)
    cfg.model = narrow
    cfg.test_evaluator.outfile_prefix = str(tmp_path / 'Task1')
    runner = Runner.from_cfg(cfg)
    runner.test()
    with zipfile.ZipFile(tmp_path / 'Task1' / 'Task1.zip') as archive:
        names = archive.namelist()
        lines = [line for name in names for line in archive.read(name).splitlines()]
    assert len(names) == 15
    assert 'Task1_small-vehicle.txt' in names
    assert lines
    assert {line.split()[0] for line in lines} == {b'P3'}
