# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import copy
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from cmid_mm.configs import build_model, load_config
from cmid_mm.demo_scenes import write_demo_data
from cmid_mm.engine.launch import set_data_root

from .trained_tasks import CONFIGS, TASKS

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def run(monkeypatch):
    """Run a tool in this process; returns what it exits with, None for success."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))

    def run_tool(tool: str, *args: object) -> str | int | None:
        path = (TOOLS / tool).resolve()
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        # As python does with the folder of a script.
        monkeypatch.setattr(sys, 'path', [str(path.parent), *sys.path])
        try:
            runpy.run_path(str(path), run_name='__main__')
        except SystemExit as stop:
            return stop.code
        return None

    return run_tool


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Small scenes with labels, and a checkpoint of random weights for each task."""
    pytest.importorskip('mmrotate')
    folder = tmp_path_factory.mktemp('inference')
    write_demo_data(folder, 8, 8, 96, 0)
    return folder


@pytest.fixture(scope='module')
def trained(data):
    """Config and checkpoint of a task."""
    made: dict[str, tuple[Config, Path]] = {}

    def get(task: str) -> tuple[Config, Path]:
        if task not in made:
            cfg = load_config(str(CONFIGS / TASKS[task]))
            set_data_root(cfg, str(data / task))
            for split in ('train', 'val', 'test'):
                cfg[f'{split}_dataloader'].dataset.pop('indices', None)
            torch.manual_seed(0)
            model = build_model(cfg)
            # Weights of the last layers so small that all classes tie prove nothing.
            for name, weight in model.named_parameters():
                last = name.split('.')[-2]
                if last in ('fc', 'fc_cls', 'conv_seg') and task != 'change':
                    torch.nn.init.normal_(weight, std=0.5)
            path = data / f'{task}.pth'
            torch.save(dict(state_dict=model.state_dict(), meta={}), path)
            made[task] = cfg, path
        cfg, path = made[task]
        return copy.deepcopy(cfg), path  # what a test sets, no other sees

    return get
