# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From command-line options to a configured run."""

import argparse
import difflib
import functools
import importlib.util
import inspect
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint

from ..checkpoints.reading import read_checkpoint

#: Set this variable to see where an error came from.
TRACEBACK_VARIABLE = 'CMID_MM_TRACEBACK'


def user_errors(main: Callable[[], None]) -> Callable[[], None]:
    """Make a command print one line for bad input instead of a traceback.

    Wrong values, missing files and refused checkpoints end the command with
    ``error: ...`` and exit status 1. With the environment variable
    ``CMID_MM_TRACEBACK=1`` the traceback is shown.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
        except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            text = str(error.args[0] if isinstance(error, KeyError) else error)
            if 'Original Traceback' in text:
                text = _message_of_traceback(text)
            sys.exit(f'error: {text} ({TRACEBACK_VARIABLE}=1 shows where)')

    return wrapper


def _message_of_traceback(text: str) -> str:
    """The error itself in a traceback that a data-loading worker reports."""
    lines = text.rpartition('Traceback (most recent call last):')[2].splitlines()
    message = itertools.dropwhile(lambda line: not line or line[0] == ' ', lines)
    return '\n'.join(message).partition(': ')[2]


def add_launcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options by which launchers of several processes call a tool."""
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes are started; the dist_ and slurm_ scripts set it',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS
    )


def load_config(name: str) -> Config:
    """Load a config file.

    Args:
        name (str): A path, or ``package::path`` for a config that an installed
            package ships, such as
            ``mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py``.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: If there is no such file or package.
    """
    package, separator, path = name.partition('::')
    if not separator:
        if not Path(name).is_file():
            raise FileNotFoundError(f'config {name} does not exist')
        return Config.fromfile(name)
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f'config {name}: package {package} is not installed; pip install it'
        )
    root = Path(spec.submodule_search_locations[0])
    for folder in (root / '.mim' / 'configs', root.parent / 'configs'):
        file = folder / path
        if file.is_file():
            return Config.fromfile(file)
    raise FileNotFoundError(
        f'config {name}: {package} has no {path} in {root / ".mim" / "configs"}'
    )


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Override config values, refusing paths that the config does not have.

    Args:
        cfg (Config): The config, changed in place.
        options (dict, optional): Values by dotted path. The last name of a path
            may be new, the names before it must exist.

    Raises:
        KeyError: If a path leads nowhere; names the closest existing key.
    """
    runner_keys = {
        *inspect.signature(Runner.__init__).parameters,
        # What the runner reads from the config besides its arguments.
        *('compile', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn'),
    }
    for path in options or {}:
        node: Any = cfg
        names = path.split('.')
        for depth, name in enumerate(names):
            if isinstance(node, (list, tuple)):
                known = name.isdigit() and int(name) < len(node)
            elif hasattr(node, 'keys'):
                known = name in node or (depth == 0 and name in runner_keys)
                known = known or (0 < depth == len(names) - 1)
            else:
                known = False
            if not known:
                keys = list(node.keys()) if hasattr(node, 'keys') else []
                close = difflib.get_close_matches(name, keys, 1)
                hint = f'; did you mean {close[0]!r}?' if close else ''
                raise KeyError(
                    f'--cfg-options {path}: the config has no {name!r} there{hint}'
                )
            if depth < len(names) - 1:
                node = (
                    node[int(name)]
                    if isinstance(node, (list, tuple))
                    else node.get(name, {})
                )
    cfg.merge_from_dict(options or {})


def set_work_dir(cfg: Config, work_dir: str | None, config_name: str) -> None:
    """Choose the folder of a run: the given one, the config's, or one by its name."""
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(config_name.split('::')[-1]).stem))


def set_data_root(cfg: Config, data_root: str) -> None:
    """Point all data sets of a config at a folder.

    Args:
        cfg (Config): The config, changed in place.
        data_root (str): The folder.

    Raises:
        ValueError: If no data loader of the config has a data set of its own.
    """
    found = False
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset')
        while dataset is not None:
            found = True
            if 'dataset' not in dataset:
                dataset.data_root = data_root
                break
            dataset = dataset.dataset  # a wrapper such as RepeatDataset
    if not found:
        raise ValueError('--data-root: the config has no data set to point there')


def set_backbone_checkpoint(cfg: Config, checkpoint: str) -> None:
    """Initialise the model's backbone from a file, completely or not at all.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): Any file that ``PretrainedBackbone`` understands.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the model has no ``backbone``.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'--backbone-checkpoint {checkpoint} does not exist')
    model = cfg.model
    while 'backbone' not in model:
        inner = [model[key] for key in ('encoder', 'model', 'detector') if key in model]
        if not inner:
            raise ValueError('--backbone-checkpoint: the model has no backbone')
        model = inner[0]
    model.backbone.init_cfg = dict(type='PretrainedBackbone', checkpoint=checkpoint)
    # Stock configs may name other weights in this older place.
    model.backbone.pop('pretrained', None)
    model.pop('pretrained', None)


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
    if wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        print('No GPU: mixed precision is off, training in float32.')
        wrapper.type = 'OptimWrapper'
        wrapper.pop('loss_scale', None)
        wrapper.pop('dtype', None)


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
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )


def set_resume(cfg: Config, resume: str | None) -> None:
    """Resume a run.

    Args:
        cfg (Config): The config with its ``work_dir``, changed in place.
        resume (str, optional): A checkpoint, or ``'auto'`` for the latest one in
            the ``work_dir``, if any. None starts anew.

    Raises:
        FileNotFoundError: If the named checkpoint does not exist.
    """
    if resume is None:
        return
    if resume != 'auto' and not Path(resume).is_file():
        raise FileNotFoundError(f'--resume {resume} does not exist')
    latest = latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if latest is None:
        print(f'No checkpoint in {cfg.work_dir}: starting anew.')
    else:
        cfg.resume, cfg.load_from = True, latest


def latest_checkpoint(work_dir: str) -> str | None:
    """The last whole checkpoint of a work folder, or None."""
    recorded = find_latest_checkpoint(work_dir)
    if recorded and Path(recorded).is_file():
        return recorded
    # The run was moved, or was killed between the checkpoint and its record.
    files = [
        *Path(work_dir).glob('epoch_*.pth'),
        *Path(work_dir).glob('iter_*.pth'),
    ]
    if not files:
        return None
    return str(max(files, key=lambda file: file.stat().st_mtime))


def refuse_unsafe_checkpoints() -> None:
    """Let mmengine read local checkpoints only without running code from them."""

    def load_from_local(filename: str, map_location: Any = None) -> Any:
        return read_checkpoint(filename, map_location=map_location)

    CheckpointLoader.register_scheme('', load_from_local, force=True)
