# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Settings that mmengine, torch and the OpenMMLab packages take unseen."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from mmengine.config import Config
from torch.utils.data import DataLoader

from ...building import (
    accepted_names,
    has_type,
    nearest_name,
    wrong_setting,
)
from ...explaining import nodes_of
from ...ranges import (
    Count,
    CountOrNever,
    Decays,
    Deviations,
    Index,
    LogLevel,
    Means,
    NonNegative,
    Positive,
    Share,
    StageNumbers,
)

_Size = Annotated[
    tuple[Count, Count],
    'height and width in pixels, such as (512, 512)',
]
_Metric = Literal['mIoU', 'mDice', 'mFscore']
#: By the path of the setting, ``*`` being anything; classes of this package check their
#: own.
_RANGES = {
    re.compile(path.replace('.', r'\.').replace('*', '.*')): found
    for path, found in {
        'log_level': LogLevel,
        'randomness.seed': Index | None,
        'randomness.deterministic': bool,
        'randomness.diff_rank_seed': bool,
        'env_cfg.cudnn_benchmark': bool,
        'env_cfg.dist_cfg.timeout': Positive | None,
        'log_processor.window_size': Count,
        'auto_scale_lr.enable': bool,
        'train_cfg.max_epochs': Count | None,
        'train_cfg.max_iters': Count | None,
        'train_cfg.val_interval': Count | None,
        'train_cfg.val_begin': Index,
        'optim_wrapper.accumulative_counts': Count,
        'optim_wrapper.optimizer.lr': NonNegative | None,
        'optim_wrapper.optimizer.weight_decay': NonNegative,
        'optim_wrapper.clip_grad.max_norm': Positive | None,
        'optim_wrapper.optimizer.eps': NonNegative | None,
        'optim_wrapper.optimizer.betas': Decays,
        'optim_wrapper.optimizer.momentum': Share,
        'auto_scale_lr.base_batch_size': Count | None,
        '*_dataloader.num_workers': Index,
        '*_dataloader.batch_size': Count | None,
        '*_dataloader.prefetch_factor': Count | None,
        # of the hooks of mmengine, mmpretrain, mmseg and mmdet
        '*_hooks.*.interval': CountOrNever,
        '*_hooks.*.interval_exp_name': Count,
        '*_hooks.*.max_keep_ckpts': CountOrNever,
        '*_hooks.*.save_begin': Index,
        '*_hooks.*.patience': Count,
        '*_hooks.*.begin_iter': Index,
        '*_hooks.*.begin_epoch': Index,
        '*_hooks.*.momentum': Share,
        '*_hooks.*.start_iters': Index,
        'param_scheduler*.begin': Index | None,
        'param_scheduler*.end': Count | None,
        'param_scheduler*.T_max': Count | None,
        'param_scheduler*.total_steps': Count | None,
        'param_scheduler*.step_size': Count | None,
        'param_scheduler*.start_factor': Positive | None,
        'param_scheduler*.end_factor': NonNegative | None,
        'param_scheduler*.gamma': Positive | None,
        'param_scheduler*.eta_min': NonNegative | None,
        'param_scheduler*.eta_min_ratio': NonNegative | None,
        'param_scheduler*.power': Positive | None,
        # of mmpretrain's algorithms, their heads and losses
        'model.momentum': Share | None,
        'model.queue_len': Count,
        'model.*temperature': Positive | tuple[Positive, Positive] | None,
        'model.*epsilon': Positive | None,
        'model.*sinkhorn_iterations': Count,
        'model.*mask_ratio': Share,
        # of mmseg, which looks at the last two when a run is first validated
        'model.*loss_weight': NonNegative,
        '*data_preprocessor.mean': Means | None,
        '*data_preprocessor.std': Deviations | None,
        'model.encoder.backbone.out_indices': StageNumbers | None,
        '*data_preprocessor.size': _Size | None,
        '*data_preprocessor.size_divisor': Count | None,
        'model.test_cfg.mode': Annotated[Literal['whole', 'slide'], 'whole or slide'],
        '*_evaluator*.iou_metrics': Annotated[
            tuple[_Metric, ...] | _Metric, 'mIoU, mDice or mFscore'
        ],
    }.items()
}
#: Dicts without a type, of which mmengine leaves unknown keys unseen.
_KNOWN = {
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'randomness': ('seed', 'diff_rank_seed', 'deterministic'),
    # mmengine hands on what it does not know itself.
    **{
        f'{split}_dataloader': (*accepted_names(DataLoader), 'num_batch_per_epoch')
        for split in ('train', 'val', 'test')
    },
}
_INDICES = re.compile(r'\w+_dataloader\.(.+\.)?dataset\.indices')


def faults_of_ranges(cfg: Config) -> Iterator[str]:
    """Values and keys that other packages take unseen, and should not.

    Args:
        cfg: The config of a run.
    """
    for place, node in [('', cfg), *nodes_of(cfg)]:
        for key in node if place in _KNOWN else ():
            if key not in _KNOWN[place]:
                yield f'{place}: unknown key {key!r}{nearest_name(key, _KNOWN[place])}'
        for key, value in node.items():
            yield from _faults_of(f'{place}.{key}' if place else key, value)


def _faults_of(path: str, value: Any) -> Iterator[str]:
    for pattern, expected in _RANGES.items():
        if pattern.fullmatch(path) and not has_type(value, expected):
            yield wrong_setting(path, value, expected)
    if _INDICES.fullmatch(path) and not _are_indices(value):
        yield (
            f'{path}={value!r}: expected how many images to take, other than 0 '
            '(below 0: of the last), or a list of their numbers'
        )


def _are_indices(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, list | tuple):
        return len(value) > 0 and all(_is_whole(index) for index in value)
    return _is_whole(value) and value != 0


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
