# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Loading, merging and looking into configs; building their models."""

import difflib
import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope, Registry
from mmengine.runner import Runner

from .dependencies import check_scope


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
        ImportError: If the package of its ``default_scope`` is not installed.
    """
    if '::' in name:
        file = packaged_config(name)
    else:
        file = Path(name)
        if not file.is_file():
            raise FileNotFoundError(f'config {name} does not exist')
    cfg = Config.fromfile(file)
    check_scope(cfg.get('default_scope'))
    return cfg


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


def merge_options(cfg: Config, options: dict[str, Any] | None) -> None:
    """Override config values, refusing paths that the config does not have.

    Args:
        cfg (Config): The config, changed in place.
        options (dict, optional): Values by dotted path. The last name of a path
            may be new, the names before it must exist.

    Raises:
        KeyError: If a path leads nowhere; names the closest existing key.
    """
    for path in options or {}:
        missing = missing_name(cfg, path)
        if missing:
            raise KeyError(f'--cfg-options {path}: {missing}')
    cfg.merge_from_dict(options or {})


def missing_name(cfg: Config, path: str) -> str | None:
    """What a config lacks to be overridden at a dotted path, or None.

    Args:
        cfg: The config.
        path: Its last name may be new, the names before it must exist.
    """
    runner_keys = {
        *inspect.signature(Runner.__init__).parameters,
        # What the runner reads from the config besides its arguments.
        *('compile', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn'),
    }
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
            return f'the config has no {name!r} there{hint}'
        if depth < len(names) - 1:
            node = (
                node[int(name)]
                if isinstance(node, (list, tuple))
                else node.get(name, {})
            )
    return None


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


def scope_of(cfg: Config) -> AbstractContextManager[Any]:
    """Context in which types of a config are looked up as its run does.

    Args:
        cfg: Any config.
    """
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine'))


def build_model(cfg: Config) -> Any:
    """Build the model of a config as mmengine's runner does, without its weights.

    Args:
        cfg (Config): Any config.

    Returns:
        nn.Module: The model.
    """
    model = dict(cfg.model)
    if cfg.get('data_preprocessor'):  # may stand beside the model
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with scope_of(cfg):
        return MODELS.build(model)


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
    with scope_of(cfg):
        found: Any = DATASETS.get(dataset['type'])
    meta = dict(getattr(found, 'METAINFO', None) or {})
    given = dataset.get('metainfo')
    return {**meta, **given} if isinstance(given, dict) else meta
