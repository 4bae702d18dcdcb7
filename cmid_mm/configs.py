# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Loading, merging and looking into configs; building their models."""

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, FUNCTIONS, MODELS, DefaultScope, Registry
from mmengine.runner import Runner

from .dependencies import check_scope
from .images import Reading


def load_config(name: str) -> Config:
    """Load a config file.

    Args:
        name (str): A path, or ``package::path`` for a config that an installed
            package ships, such as
            ``mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py``. A path such as
            ``configs/cmid/cmid_r18_demo.py`` that is not there stands for the config
            that cmid_mm ships.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: If there is no such file or package.
        ImportError: If the package of its ``default_scope`` is not installed.
        ValueError: If it is no config, or one that cannot be read; names it.
    """
    if '::' in name:
        file = packaged_config(name)
    else:
        file = Path(name)
        if file.is_dir():
            raise ValueError(f'config {name} is a folder; name a file in it')
        if not file.is_file():
            file = _shipped_config(file)
    try:
        cfg = Config.fromfile(file)
    except FileNotFoundError as error:  # of a base
        raise FileNotFoundError(f'config {name}: {error}') from error
    except Exception as error:  # a config is a program
        told = type(error).__name__ + (f': {error}' if str(error) else '')
        raise ValueError(f'config {name} cannot be read: {told}') from error
    if not any(key in cfg for key in READ_BY_RUNS):
        raise ValueError(
            f'{name} is no config: it sets none of model, train_dataloader, ...'
        )
    check_scope(cfg.get('default_scope'))
    return cfg


def _shipped_config(path: Path) -> Path:
    """The file of a config that cmid_mm ships, by its path in a checkout."""
    if path.parts[:1] != ('configs',):
        raise FileNotFoundError(f'config {path} does not exist')
    try:
        return packaged_config(f'cmid_mm::{path.relative_to("configs").as_posix()}')
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'config {path} does not exist in {Path.cwd()}; and as shipped: {error}'
        ) from None


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
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # of a part of a dotted name, or no name
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f'config {name}: package {package} is not installed; pip install it'
        )
    root = Path(spec.submodule_search_locations[0])
    folders = (root / '.mim' / 'configs', root.parent / 'configs')
    for folder in folders:
        if (folder / path).is_file():
            return folder / path
    known = {file.name for folder in folders for file in folder.rglob('*.py')}
    close = difflib.get_close_matches(Path(path).name, sorted(known), 1)
    hint = f'; did you mean {close[0]}?' if close else ''
    raise FileNotFoundError(f'config {name}: {package} has no {path}{hint}')


# mmengine finds the packages of ``_base_ = 'package::path'`` by the names of their
# distributions, such as 'mmsegmentation', which the maintained forks have changed; and
# it does not know cmid_mm. So, once this is imported, Config.fromfile looks for a base
# where load_config looks.
_original_cfg_path = Config._get_cfg_path


def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    if '::' not in cfg_path:
        return _original_cfg_path(cfg_path, filename)
    package = cfg_path.partition('::')[0]
    # The scope of what the config copies from this base; cmid_mm has none.
    scope = None if package == 'cmid_mm' else package
    return str(packaged_config(cfg_path)), scope


Config._get_cfg_path = staticmethod(_get_cfg_path)


#: What is read from the top of a config when it runs.
READ_BY_RUNS = {
    *inspect.signature(Runner.__init__).parameters,
    # by the runner, besides its arguments
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
    # by cmid_mm
    'custom_imports',
    'prepared_by',
    'tta_model',
    'tta_pipeline',
}


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


def resolve_type(registry: Registry, kind: Any) -> Any:
    """What the ``type`` of a config stands for: a class, or None if it is unknown.

    Args:
        registry: Where names are looked up.
        kind: A class, or its name, scoped name or path.
    """
    if not isinstance(kind, str):
        return kind
    try:
        return registry.get(kind)
    except RuntimeError:  # some versions of mmengine raise it, others return None
        return None


def is_type(registry: Registry, kind: Any, base: type) -> bool:
    """Whether the ``type`` of a config stands for a class or one derived from it."""
    found = resolve_type(registry, kind)
    return isinstance(found, type) and issubclass(found, base)


def type_name(part: Any) -> str:
    """The ``type`` of a part of a config without its package, ``''`` if it has none.

    Args:
        part: A config. Its type is a name, or a class or function in configs of the
            newer style, which import what they use.
    """
    kind = part.get('type') or ''
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def collate_function(dataloader: Any) -> Callable[..., Any]:
    """How a data loader joins samples to a batch; looked up in the current scope.

    Args:
        dataloader: Its config.
    """
    kind = (dataloader.get('collate_fn') or {}).get('type') or pseudo_collate
    found: Any = FUNCTIONS.get(kind) if isinstance(kind, str) else kind
    return found


def scope_of(cfg: Config) -> AbstractContextManager[Any]:
    """Context in which types of a config are looked up as its run does.

    Args:
        cfg: Any config.
    """
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine')


def build_model(cfg: Config) -> Any:
    """Build the model of a config as mmengine's runner does, without its weights.

    It is to be used, on images of any size, not trained; see :func:`take_small_maps`.

    Args:
        cfg (Config): Any config.

    Returns:
        nn.Module: The model.
    """
    model = dict(cfg.model)
    if cfg.get('data_preprocessor'):  # may stand beside the model
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with scope_of(cfg):
        built = MODELS.build(model)
    take_small_maps(built)
    return built


def take_small_maps(network: Any) -> None:
    """Let windows of attention take maps smaller than they are, by padding these.

    mmpretrain's Swin refuses them, as those of 96 pixels in its last stage; its switch
    for it would also shift the windows of maps of just their size, which networks
    without it, those of timm among them, do not.
    """
    for module in network.modules():
        if getattr(module, 'pad_small_map', None) is False:
            module.register_forward_pre_hook(_pad_if_small)


def _pad_if_small(module: Any, inputs: tuple[Any, ...]) -> None:
    module.pad_small_map = min(inputs[1]) < module.window_size


def innermost_dataset(cfg: Config, split: str) -> Any:
    """Config of the data set in a data loader, inside wrappers such as RepeatDataset.

    Args:
        cfg (Config): A config.
        split (str): ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        ValueError: If the config has no such data loader.
    """
    dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
    if dataset is None:
        raise ValueError(f'the config has no {split}_dataloader with a data set')
    return next(wrapped_datasets(dataset))


def first_reading(cfg: Any, split: str) -> Reading | None:
    """How the images of a data loader become numbers.

    Args:
        cfg: A config, or the plain dict of one.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        What the loading step of the pipeline reads: 8-bit colours if that is
        ``LoadImageFromFile``. None if there is no such step.

    Raises:
        ValueError: If the options of the step contradict each other.
    """
    for dataset in wrapped_datasets(
        (cfg.get(f'{split}_dataloader') or {}).get('dataset')
    ):
        for step in dataset.get('pipeline') or []:
            kind = step.get('type')
            name = (kind if isinstance(kind, str) else kind.__name__).split('.')[-1]
            if name == 'LoadImageFromFile':
                return Reading()
            if name in ('LoadImagery', 'LoadImagePair'):
                names = (field.name for field in fields(Reading))
                options = {key: step[key] for key in names if step.get(key) is not None}
                return Reading(**options)
    return None


def dataset_meta(cfg: Config, checkpoint_meta: dict[str, Any]) -> dict[str, Any]:
    """Classes and palette: as stored with the checkpoint, else by the config.

    Args:
        cfg (Config): The config.
        checkpoint_meta (dict): ``meta`` of the checkpoint.

    Returns:
        dict: Meta information, empty if there is none.
    """
    stored = checkpoint_meta.get('dataset_meta') or {}
    if stored.get('classes'):
        return dict(stored)
    dataset = innermost_dataset(cfg, 'test')
    found: Any = dataset['type']
    if isinstance(found, str):
        with scope_of(cfg):
            found = DATASETS.get(found)
    meta = dict(getattr(found, 'METAINFO', None) or {})
    given = dataset.get('metainfo')
    return {**meta, **given} if isinstance(given, dict) else meta
