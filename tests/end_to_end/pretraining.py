# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A tiny pre-training run on image files, for tests."""

from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner

from tests.toy import toy_config


def write_images(folder: Path, count: int = 10, size: int = 80) -> Path:
    """Write smooth random images."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{index:03d}.png'), image)
    return folder


def toy_run(images: Path, work_dir: Path, **changes) -> Config:
    """Config of three epochs of five iterations, a checkpoint each second one."""
    model = toy_config()
    data_preprocessor = model.pop('data_preprocessor')
    model['encoder']['backbone']['drop_path_rate'] = 0.2
    config = dict(
        default_scope='mmpretrain',
        model=model,
        data_preprocessor=data_preprocessor,
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            drop_last=True,
            sampler=dict(type='ResumableSampler'),
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='ImageryDataset',
                data_root=str(images),
                pipeline=[
                    dict(type='LoadImagery', size=64),
                    dict(type='ViewPair', size=64),
                    dict(type='PhotometricNoise'),
                    dict(type='MaskPair', size=64, patch_size=16),
                    dict(type='PackViewPair'),
                ],
            ),
        ),
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=3),
        optim_wrapper=dict(
            type='OptimWrapper',
            constructor='MatrixDecayConstructor',
            optimizer=dict(type='BlockwiseAdan', lr=1e-3, weight_decay=0.02),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, end=1, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', begin=1, end=3, convert_to_iter_based=True),
        ],
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook',
                by_epoch=False,
                interval=2,
                backend_args=dict(backend='atomic_local'),
            ),
            logger=dict(type='LoggerHook', interval=1),
            log_history=dict(type='LogHistoryHook', keep=3),
        ),
        custom_hooks=[
            dict(type='TeacherUpdateHook'),
            dict(type='UnreadableImagesHook'),
            dict(type='ThroughputHook'),
        ],
        randomness=dict(seed=7),
        work_dir=str(work_dir),
        log_level='WARNING',
    )
    cfg = Config(config)
    cfg.merge_from_dict(changes)
    return cfg


class Killed(Exception):
    """Stands for the signal that ends a run."""


def train(cfg: Config, kill_at: int | None = None) -> Runner:
    """Train, or until just before an iteration; return the runner."""
    cfg.experiment_name = f'{Path(cfg.work_dir).name}-{kill_at}-{cfg.get("resume")}'
    runner = Runner.from_cfg(cfg)
    if kill_at is not None:
        run_iter = runner.train_loop.run_iter

        def run_iter_or_die(idx, data_batch):
            if runner.iter == kill_at:
                raise Killed
            run_iter(idx, data_batch)

        runner.train_loop.run_iter = run_iter_or_die
    try:
        runner.train()
    except Killed:
        pass
    return runner
