# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Every numeric setting of a pre-training, with values that make no sense.

Each is refused with a text that names it, or trains a step to finite numbers.
"""

import copy
import random
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from mmpretrain.registry import MODELS
from torch.utils.data import default_collate

from cmid_mm.building import has_type
from cmid_mm.configs import scope_of
from cmid_mm.engine.settings import check_settings
from cmid_mm.explaining import explain
from tests.end_to_end.pretraining import toy_run, write_images
from tests.wrong_settings import places

NETWORK = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
SMALL = dict(hidden_channels=16, out_channels=8)
HEADS = {
    'model.heads': dict(
        regression=dict(type='BYOLHead', **SMALL),
        similarity=dict(type='PatchSimilarityHead', num_matches=2, **SMALL),
        distillation=dict(type='FeatureDistillationHead', target=NETWORK),
    ),
    'model.heads.reconstruction.spatial_loss': dict(type='FocalL1Loss'),
    'optim_wrapper.clip_grad': dict(max_norm=1.0),
}
HOOKS_TO_BUILD = [
    dict(type='ThroughputHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='ReconstructionHook'),
    dict(type='LogHistoryHook'),
]
NUMBERS = (1, 1.0, (1.0, 1.0), [1, 3], 'wrong')
WRONG = (
    *('wrong', None, [], [0.5], {}, True),
    *(float('nan'), float('inf'), -float('inf')),
    *(-1, -0.5, 0, 0.0, 1, 1.5, 2, 7, 1e6),
    *((0, 0), (2, 1), (-1.0, 1.0), (float('nan'), 1.0), (1, 2, 3)),
)
#: Settings of other packages' classes.
FOREIGN = (
    'optim_wrapper.optimizer.lr',
    'optim_wrapper.optimizer.weight_decay',
    'optim_wrapper.accumulative_counts',
    'optim_wrapper.clip_grad.max_norm',
    'train_dataloader.batch_size',
    'train_dataloader.num_workers',
    'train_cfg.max_epochs',
    'param_scheduler.0.start_factor',
    'param_scheduler.0.end',
    'randomness.seed',
)


def training(folder: Path) -> Config:
    """A pre-training with heads of all kinds, which trains."""
    cfg = toy_run(write_images(folder / 'images', count=4), folder / 'work')
    cfg.merge_from_dict(HEADS)
    cfg.custom_hooks = HOOKS_TO_BUILD
    check_settings(cfg)
    step(cfg)
    return cfg


def numeric_settings(cfg: Config) -> list[str]:
    """Paths of the settings that may be numbers."""
    own = [
        f'{place.path}.{name}'
        for place in places(cfg)
        for name, expected in place.types.items()
        if any(has_type(v, expected) for v in NUMBERS[:-1])
        and not has_type(NUMBERS[-1], expected)
        and not has_type(True, expected)
    ]
    return own + [*FOREIGN]


def step(cfg: Config) -> None:
    """Build all that a run is made of, and train one step."""
    cfg = copy.deepcopy(cfg)
    torch.manual_seed(0)
    with scope_of(cfg):
        for hook in (*cfg.custom_hooks, *cfg.default_hooks.values()):
            HOOKS.build(hook)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        DATA_SAMPLERS.build(
            cfg.train_dataloader.sampler, default_args=dict(dataset=dataset)
        )
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
        wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    samples = [dataset[i] for i in range(cfg.train_dataloader.batch_size)]
    for _ in range(2):
        losses = model.train_step(default_collate(samples), wrapper)
        model.update_teacher(model.momentum_at(1, 10))
        assert all(value.isfinite().all() for value in losses.values()), losses
    for name, value in model.state_dict().items():
        assert value.isfinite().all(), name


def outcome(cfg: Config, path: str, name: str, value) -> str:
    """``'refused'`` or ``'trained'``, or what went wrong."""
    changed = copy.deepcopy(cfg)
    node = changed
    *parents, last = path.split('.')
    for key in parents:
        if isinstance(node, list | tuple):
            node = node[int(key)]
        else:
            node = node[key]
    node[last] = value
    try:
        check_settings(changed)
        step(changed)
    except (ValueError, TypeError, KeyError) as error:
        text = explain(error)
        return 'refused' if name in text and '\n' not in text else f'unclear: {text}'
    except Exception as error:
        return f'{type(error).__name__}: {str(error)[:150]}'
    return 'trained'


def check(cfg: Config, settings: list[str], values_of_each: int) -> dict[str, int]:
    """Try values of settings; returns how many of them were refused, and trained."""
    counts = {'refused': 0, 'trained': 0}
    wrong = []
    for path in settings:
        rng = random.Random(path)
        for value in rng.sample(WRONG, values_of_each):
            found = outcome(cfg, path, path.rpartition('.')[2], value)
            if found in counts:
                counts[found] += 1
            else:
                wrong.append(f'{path}={value!r}: {found}')
    assert not wrong, '\n' + '\n'.join(wrong)
    return counts
