# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From command-line options to a configured run."""

import atexit
import difflib
import faulthandler
import gc
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS

from ..configs import (
    READ_BY_RUNS,
    innermost_dataset,
    is_type,
    type_name,
    wrapped_datasets,
)
from ..files import check_writable
from .hooks import StepGuardHook
from .latest_checkpoint import check_whole, latest_checkpoint, recorded_checkpoint

#: How alike names are that are taken for one another: variables such as
#: ``test_pipeline`` (beside ``tta_pipeline``), in configs of the OpenMMLab packages,
#: are less alike.
_ALIKE = 0.89
#: Time to take leave of the other processes at the end of a run.
_LEAVE_SECONDS = 60


def warn_of_misspelt_keys(cfg: Config) -> None:
    """Say which keys at the top of a config are nearly what a run reads, but not.

    Configs may keep variables there, so that others pass.
    """
    known = sorted(READ_BY_RUNS)
    for key in cfg:
        close = difflib.get_close_matches(key, known, 1, _ALIKE)
        if close and key not in known:
            print(f'Nothing reads {key!r} of the config; did you mean {close[0]!r}?')


def set_work_dir(cfg: Config, work_dir: str | None, config_name: str) -> None:
    """Choose the folder of a run: the given one, the config's, or one by its name.

    Raises:
        OSError: If it cannot be written.
    """
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(config_name.split('::')[-1]).stem))
    check_writable(cfg.work_dir, '--work-dir', is_folder=True)


def set_data_root(cfg: Config, data_root: str) -> None:
    """Point all data sets of a config at a folder.

    Args:
        cfg (Config): The config, changed in place.
        data_root (str): The folder.

    Raises:
        ValueError: If no data loader of the config has a data set of its own.
    """
    datasets = [
        dataset
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')
        for dataset in wrapped_datasets((cfg.get(name) or {}).get('dataset'))
    ]
    if not datasets:
        raise ValueError('--data-root: the config has no data set to point there')
    old_roots = {dataset.get('data_root') or '' for dataset in datasets} - {''}
    for dataset in datasets:
        dataset.data_root = data_root
    # COCO's metric reads the annotations itself.
    for name in ('val_evaluator', 'test_evaluator'):
        evaluators: Any = cfg.get(name) or []
        for evaluator in [evaluators] if hasattr(evaluators, 'keys') else evaluators:
            file = evaluator.get('ann_file')
            for root in old_roots:
                if isinstance(file, str) and Path(file).is_relative_to(root):
                    evaluator.ann_file = str(
                        Path(data_root, Path(file).relative_to(root))
                    )
                    break


def use_amp(cfg: Config) -> None:
    """Switch mixed precision on."""
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate to the batch of all processes.

    Raises:
        ValueError: If the config does not say for which batch its rate is meant.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ValueError(
            '--auto-scale-lr: the config has no auto_scale_lr.base_batch_size'
        )
    cfg.auto_scale_lr.enable = True


def fall_back_to_float32(cfg: Config) -> None:
    """Train in float32 where there is no GPU, and say so."""
    wrapper: Any = cfg.get('optim_wrapper') or {}
    mixed = is_type(OPTIM_WRAPPERS, wrapper.get('type'), AmpOptimWrapper)
    if mixed and not torch.cuda.is_available():
        print('No GPU: mixed precision is off, training in float32.')
        wrapper.type = 'OptimWrapper'
        wrapper.pop('loss_scale', None)
        wrapper.pop('dtype', None)


def guard_steps(cfg: Config) -> None:
    """Skip iterations that are not finite, unless the config says how or that not.

    A config sets ``default_hooks.step_guard``, None for none, or has a
    :class:`~cmid_mm.engine.hooks.StepGuardHook` among its custom hooks.
    """
    custom = cfg.get('custom_hooks') or []
    if not any(is_type(HOOKS, hook.get('type'), StepGuardHook) for hook in custom):
        if cfg.get('default_hooks') is None:
            cfg.default_hooks = {}
        cfg.default_hooks.setdefault('step_guard', dict(type='StepGuardHook'))
        if cfg.default_hooks.step_guard is None:
            del cfg.default_hooks['step_guard']  # mmengine knows None of its own alone


def save_on_signals(cfg: Config) -> None:
    """Save when a signal stops a run, unless ``default_hooks.preemption`` says how."""
    hooks = cfg.setdefault('default_hooks', {}) or {}
    hooks.setdefault('preemption', dict(type='PreemptionHook'))


def use_tta(cfg: Config) -> None:
    """Test with the config's test-time augmentation.

    Images and labels are loaded as without it: where the test pipeline chooses bands or
    maps labels, ``tta_pipeline`` need not repeat it.

    Args:
        cfg: The config, changed in place.

    Raises:
        ValueError: If it has none.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]
    if missing:
        raise ValueError(
            f'--tta: the config has no {" and no ".join(missing)}; add them as in '
            'configs/_base_/segmentation_runtime.py, or test without --tta'
        )
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    dataset = innermost_dataset(cfg, 'test')
    loaders = {type_name(step): step for step in dataset.pipeline}

    def loading_alike(part: Any) -> Any:
        if isinstance(part, (list, tuple)):
            return [loading_alike(step) for step in part]
        if type_name(part).startswith('Load'):
            return loaders.get(type_name(part), part)
        if 'transforms' in part:
            return {**part, 'transforms': loading_alike(part['transforms'])}
        return part

    dataset.pipeline = [dataset.pipeline[0], *loading_alike(cfg.tta_pipeline)[1:]]


def pin_memory(cfg: Config) -> None:
    """Let data loaders hand batches over in memory from which a GPU copies faster."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if torch.cuda.is_available() and cfg.get(name):
            cfg[name].setdefault('pin_memory', True)


def set_launcher(cfg: Config, launcher: str) -> None:
    """Say how the processes of the run were started.

    mmengine's own set-up asks for a GPU for each process; where there is none, those
    that torchrun started are joined here, over gloo.

    Args:
        cfg (Config): The config, changed in place.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """
    cfg.launcher = launcher
    if launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        cfg.pop('sync_bn', None)  # it works on GPUs only
        atexit.register(_leave_process_group)
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )


def _leave_process_group() -> None:
    """End gloo's threads, which could abort a process that is ending.

    The group lives as long as a model that is wrapped for it, and mmengine's runner,
    which holds the model, is part of reference cycles. All work is done: a process that
    hangs here says where, and is ended with status 1, for a launcher would wait for it.
    """
    faulthandler.dump_traceback_later(_LEAVE_SECONDS, exit=True, file=2)
    torch.distributed.destroy_process_group()
    gc.collect()


def set_resume(cfg: Config, resume: str | None) -> None:
    """Resume a run, also where the config itself says so.

    Args:
        cfg (Config): The config with its ``work_dir``, changed in place.
        resume (str, optional): A checkpoint, or ``'auto'`` for the latest one in
            the ``work_dir``, if any. None starts anew.

    Raises:
        FileNotFoundError: If the named checkpoint does not exist.
        CheckpointError: If it is damaged, or the folder has damaged ones only.
    """
    if resume is None:
        if not cfg.get('resume') or cfg.get('load_from'):
            if earlier := recorded_checkpoint(Path(cfg.work_dir)):
                print(
                    f'{cfg.work_dir} holds an earlier run, up to {earlier.name}, whose '
                    'checkpoints this one will overwrite. To go on with it, stop this '
                    'one now and give --resume.'
                )
            return
        resume = 'auto'  # as mmengine takes a config that resumes from nothing named
    if resume != 'auto' and not Path(resume).is_file():
        raise FileNotFoundError(f'--resume {resume} does not exist')
    latest: str | None = resume
    if resume == 'auto':
        latest = latest_checkpoint(cfg.work_dir)
    else:
        check_whole(resume)
    if latest is None:
        print(f'No checkpoint in {cfg.work_dir}: starting anew.')
    else:
        cfg.resume, cfg.load_from = True, latest
