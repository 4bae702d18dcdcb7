# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Configs of continued pre-training, each trained from weights of its kind."""

from pathlib import Path

import mmengine.runner.runner
import pytest
import torch
from mmengine.runner import Runner

from cmid_mm.configs import load_config
from cmid_mm.engine.backbone_checkpoint import set_backbone_checkpoint, stem_option
from cmid_mm.engine.run_length import set_run_length
from cmid_mm.models.parts import build_part
from tests.end_to_end.pretraining import write_images
from tests.test_recipe_configs import KINDS, write_scenes
from tests.toy import SMALL_VIT

FOLDER = Path(__file__).parents[1] / 'configs' / 'cmid'
#: With the option --stem that their comments tell.
CONFIGS = {
    'cmid-distil_r18_scenes': None,
    'cmid-distil_r50_scenes': None,
    'cmid-distil-dinov2_r50_scenes': None,
    'cmid-distil_dinov2-b_scenes': None,
    'cmid-distil_r50_sentinel2': '3,2,1,mean,mean,mean,mean,mean,mean,mean',
}


def small(backbone) -> None:
    """Few and thin blocks."""
    if backbone.type == 'ResNet':
        backbone.update(depth=18, base_channels=8)
    else:
        backbone.arch = SMALL_VIT


def test_all_are_tried():
    assert set(CONFIGS) == {path.stem for path in FOLDER.glob('cmid-distil*.py')}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_run_starts_from_weights_and_keeps_the_target(name, tmp_path, monkeypatch):
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)  # takes seconds
    cfg = load_config(str(FOLDER / f'{name}.py'))
    size = 56 if 'dinov2-b' in name else 64
    dataset = cfg.train_dataloader.dataset
    for step in dataset.pipeline:
        if 'size' in step:
            step.size = size
    images = tmp_path / 'images'
    if 'sentinel2' in name:
        images.mkdir()
        write_scenes(images, *KINDS['cmid_r50_sentinel2'])
        dataset.update(tile_size=size, per_epoch=4)
    else:
        write_images(images, count=4)
    dataset.data_root = str(images)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)

    target = cfg.model.heads.distillation.get('target')
    for backbone in filter(None, (cfg.model.encoder.backbone, target)):
        small(backbone)
    torch.manual_seed(0)
    weights = build_part(cfg.model.encoder.backbone)
    files = [tmp_path / 'student.pth']
    torch.save(weights.state_dict(), files[0])
    if target is not None:
        files.append(tmp_path / 'target.pth')
        weights = build_part({**target, 'init_cfg': None})
        torch.save(weights.state_dict(), files[1])
        target.init_cfg.checkpoint = str(files[1])
    stem = CONFIGS[name] and stem_option(CONFIGS[name])
    set_backbone_checkpoint(cfg, str(files[0]), stem)

    set_run_length(cfg, 1, None)
    cfg.optim_wrapper.type = 'OptimWrapper'  # no AMP on a CPU
    cfg.default_hooks.checkpoint.interval = -1
    cfg.visualizer.vis_backends = []
    cfg.update(work_dir=str(tmp_path / 'work'), log_level='WARNING')
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    assert 'train/target_similarity' in runner.message_hub.log_scalars
    frozen = runner.model.heads['distillation'].target.state_dict()
    for key, value in weights.state_dict().items():
        assert torch.equal(frozen[key], value), key
    first = next(iter(runner.model.student.backbone.parameters()))
    bands = len(cfg.data_preprocessor.mean)
    assert bands == (10 if 'sentinel2' in name else 3)
    if first.ndim == 4:
        assert first.shape[1] == bands
