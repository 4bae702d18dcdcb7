# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Short trainings that hooks look at."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset


class NoisyImages(Dataset):
    """Draws from every global generator, as augmentations do."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        noise = np.random.rand(3, 8, 8) * 50 + random.random() * 50
        return dict(inputs=torch.from_numpy(noise).float())


def train(
    model,
    work_dir,
    *hooks,
    max_epochs=3,
    by_epoch=True,
    val_interval=None,
    lr=0.1,
    batch_size=2,
    runner_type=Runner,
    **kwargs,
):
    train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
    if not by_epoch:
        train_cfg = dict(by_epoch=False, max_iters=max_epochs)
    if val_interval:
        train_cfg['val_interval'] = val_interval
    runner = runner_type(
        model,
        str(work_dir),
        train_dataloader=dict(
            dataset=NoisyImages(),
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr)),
        custom_hooks=list(hooks),
        randomness=dict(seed=3),
        log_processor=dict(by_epoch=by_epoch),
        experiment_name=f'{work_dir.name}_{np.random.default_rng().integers(1 << 30)}',
        **kwargs,
    )
    runner.train()
    return runner


def logged(runner, *names):
    """Steps and values of the scalars in the visualizer's file."""
    lines = Path(runner.log_dir, 'vis_data/scalars.json').read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [
        (record['step'], *(record[name] for name in names))
        for record in records
        if names[0] in record
    ]
