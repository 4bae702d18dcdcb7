# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From command-line options to a configured run."""

import argparse
import atexit
import difflib
import functools
import gc
import importlib.util
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config, DictAction
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint

from ..checkpoints import normalization, read_checkpoint

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


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every run of a config takes."""
    parser.add_argument(
        '--work-dir',
        metavar='D',
        help='folder for checkpoints, logs, results and pictures; '
        'default: work_dirs/NAME_OF_THE_CONFIG',
    )
    parser.add_argument(
        '--data-root', metavar='D', help='folder with the images or the data set'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='K=V',
        help='override settings, such as train_dataloader.batch_size=32',
    )
    add_launcher_arguments(parser)


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
    if '::' in name:
        return Config.fromfile(packaged_config(name))
    if not Path(name).is_file():
        raise FileNotFoundError(f'config {name} does not exist')
    return Config.fromfile(name)


def packaged_config(name: str) -> Path:
    """The file of a config that an installed package ships.

    Args:
        name (str): ``package::path``.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If there is no such package, or no such file in it.
    """
    package, _, path = name.partition('::')
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f'config {name}: package {package} is not installed; pip install it'
        )
    root = Path(spec.submodule_search_locations[0])
    for folder in (root / '.mim' / 'configs', root.parent / 'configs'):
        if (folder / path).is_file():
            return folder / path
    close = difflib.get_close_matches(
        Path(path).name,
        [file.name for file in (root / '.mim' / 'configs').rglob('*.py')],
        1,
    )
    hint = f'; did you mean {close[0]}?' if close else ''
    raise FileNotFoundError(
        f'config {name}: {package} has no {path} in {root / ".mim" / "configs"}{hint}'
    )


# mmengine finds the packages of ``_base_ = 'package::path'`` by the names of their
# distributions, such as 'mmsegmentation', which the maintained forks have changed; and
# it does not know cmid_mm. So a base is looked for where load_config looks.
_original_cfg_path = Config._get_cfg_path


def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    if '::' not in cfg_path:
        return _original_cfg_path(cfg_path, filename)
    package = cfg_path.partition('::')[0]
    # The scope of what the config copies from this base; cmid_mm has none.
    scope = None if package == 'cmid_mm' else package
    return str(packaged_config(cfg_path)), scope


Config._get_cfg_path = staticmethod(_get_cfg_path)


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
                if isinstance(file, str) and file.startswith(root):
                    evaluator.ann_file = str(
                        Path(data_root, file[len(root) :].lstrip('/'))
                    )


def wrapped_datasets(dataset: Any) -> Iterator[Any]:
    """The config of a data set, or those that a wrapper such as RepeatDataset holds.

    Args:
        dataset (ConfigDict, optional): The ``dataset`` of a data loader.

    Yields:
        ConfigDict: A data set that is no wrapper.
    """
    if dataset is None:
        return
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from wrapped_datasets(part)


def set_backbone_checkpoint(cfg: Config, checkpoint: str) -> None:
    """Initialise the model's backbone from a file, completely or not at all.

    Prints how the images of the pre-training were normalised if the file tells so and
    the config does it differently.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): Any file that ``PretrainedBackbone`` understands.

    Raises:
        CheckpointError: If the file cannot be read.
        FileNotFoundError: If the file does not exist.
        ValueError: If the model has no ``backbone`` or more than one, or would load
            something else over it.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'--backbone-checkpoint {checkpoint} does not exist')
    pretraining = normalization(
        read_checkpoint(checkpoint, mmap=True, skip_objects=True)
    )
    path, parent = _parent_of_backbone(cfg)
    overwriting = {f'{path}.init_cfg': parent.get('init_cfg')}
    if path != 'model':
        overwriting['model.init_cfg'] = cfg.model.get('init_cfg')
    if not cfg.get('resume'):
        overwriting['load_from'] = cfg.get('load_from')
    for key, value in overwriting.items():
        if isinstance(value, dict):
            value = value.get('checkpoint')
        if value and isinstance(value, str):
            raise ValueError(
                f'--backbone-checkpoint: {key} of the config loads {value} over the '
                f'backbone; add --cfg-options {key}=None'
            )
    parent.backbone.init_cfg = dict(type='PretrainedBackbone', checkpoint=checkpoint)
    # Stock configs may name other weights in this older place.
    parent.backbone.pop('pretrained', None)
    parent.pop('pretrained', None)
    _compare_normalization(cfg, pretraining)


def _parent_of_backbone(cfg: Config) -> tuple[str, Any]:
    """Path and config of the outermost part of the model that has a backbone."""
    level: dict[str, Any] = {'model': cfg.get('model') or {}}
    while level:
        found = [path for path, part in level.items() if 'backbone' in part]
        if len(found) == 1:
            return found[0], level[found[0]]
        if found:
            raise ValueError(
                '--backbone-checkpoint: the model has several backbones, '
                f'{" and ".join(f"{path}.backbone" for path in found)}; '
                f'{_BY_HAND} the one that is meant'
            )
        level = {
            f'{path}.{key}': part
            for path, whole in level.items()
            for key, part in whole.items()
            if isinstance(part, dict)
        }
    parts = [k for k, v in (cfg.get('model') or {}).items() if isinstance(v, dict)]
    raise ValueError(
        f"--backbone-checkpoint: the model has no 'backbone' among its parts "
        f'({", ".join(parts) or "none"}); {_BY_HAND} the one that is meant'
    )


_BY_HAND = (
    'in a config of your own, write '
    "init_cfg=dict(type='PretrainedBackbone', checkpoint=...) into"
)


def _compare_normalization(cfg: Config, pretraining: dict[str, list[float]]) -> None:
    """Say so if a config normalises images otherwise than the pre-training did."""
    path, part = 'data_preprocessor', cfg.get('data_preprocessor') or {}
    model_part: Any = cfg.model.get('data_preprocessor')
    if isinstance(model_part, dict):  # the runner prefers it
        path, part = f'model.{path}', model_part
    # Semi-supervised detectors wrap the one that normalises.
    while isinstance(part.get('data_preprocessor'), dict):
        path, part = f'{path}.data_preprocessor', part['data_preprocessor']
    own = {name: list(part.get(name) or []) for name in ('mean', 'std')}

    def text(values: list[float]) -> str:
        return f'[{",".join(f"{v:.8g}" for v in values)}]' if values else 'none'

    if not pretraining or own == pretraining:
        return
    written = [f"'{path}.{name}={text(pretraining[name])}'" for name in ('mean', 'std')]
    in_rgb = part.get('bgr_to_rgb') or part.get('to_rgb')
    print(
        'The backbone was pre-trained on images with '
        f'mean {text(pretraining["mean"])} and std {text(pretraining["std"])}, '
        f'this config normalises with mean {text(own["mean"])} and std '
        f'{text(own["std"])}. To normalise as in pre-training: '
        f'--cfg-options {" ".join(written)}'
        + ('' if in_rgb else ' (in RGB order; images read as BGR need bgr_to_rgb=True)')
    )


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
    which holds the model, is part of reference cycles.
    """
    torch.distributed.destroy_process_group()
    gc.collect()


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
    if recorded:
        # The record is an absolute path: in a copy of the folder, that of the original.
        for file in (Path(work_dir, Path(recorded).name), Path(recorded)):
            if file.is_file():
                return str(file)
    # The run was killed between the checkpoint and its record.
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
