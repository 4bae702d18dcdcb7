# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A model of random weights for each task, and small scenes for it."""

from pathlib import Path

from mmengine.config import Config

CONFIGS = Path(__file__).parents[2] / 'configs'
TASKS = {
    'scene': 'classification/resnet18_demo.py',
    'segmentation': 'segmentation/upernet_r18_demo.py',
    'detection': 'detection/oriented-rcnn_r18_demo.py',
    'change': 'change_detection/bit_r18_demo.py',
}


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()}


def dump(cfg: Config, path: Path) -> Path:
    cfg.dump(path)
    return path
