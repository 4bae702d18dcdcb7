# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Missing or too few data: found before training, with the way to get more."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop

from ..configs import wrapped_datasets
from ..preparation import PREPARATIONS


def check_data(cfg: Config, *loaders: str) -> None:
    """Check that the folders of a config's data sets exist.

    Only of a config that says ``prepared_by``, the name of a data set of
    ``tools/prepare_data.py``: the error says what to download and run. Data sets of
    other configs may download themselves, or have messages of their own.

    Args:
        cfg (Config): The config.
        *loaders (str): Names of the data loaders whose data are needed.

    Raises:
        FileNotFoundError: If a folder does not exist.
    """
    if 'prepared_by' not in cfg:
        return
    for loader in loaders:
        for dataset in wrapped_datasets((cfg.get(loader) or {}).get('dataset')):
            for folder in _folders(dataset):
                if '://' not in folder and not Path(folder).exists():
                    raise FileNotFoundError(
                        f'{folder} does not exist ({loader} of the config). '
                        + _advice(cfg.prepared_by, dataset.get('data_root'))
                    )


def check_batches(loop: Any) -> None:
    """Refuse training by epochs on data that do not fill one batch.

    Args:
        loop: What trains; loops of other kinds are not looked at.

    Raises:
        ValueError: If there are fewer images than one batch of all processes, or none.
    """
    if isinstance(loop, EpochBasedTrainLoop) and len(loop.dataloader) == 0:
        loader: Any = loop.dataloader
        raise ValueError(
            f'{len(loader.dataset)} images do not fill one batch of '
            f'{loader.batch_size} images on {dist.get_world_size()} process(es); lower '
            'train_dataloader.batch_size, or add images'
        )


def _folders(dataset: Any) -> Iterator[str]:
    root = dataset.get('data_root') or ''
    if root:
        yield root
    prefixes = dataset.get('data_prefix') or {}
    for prefix in [prefixes] if isinstance(prefixes, str) else prefixes.values():
        if prefix and isinstance(prefix, str):
            yield prefix if '://' in prefix else os.path.join(root, prefix)


def _advice(prepared_by: str, root: str | None) -> str:
    kind = PREPARATIONS[prepared_by]
    return (
        f'It is made from {kind.title}, to be downloaded from {kind.url} '
        f'(terms: {kind.licence}):\n{kind.expects}\n'
        f'Then: python tools/prepare_data.py {kind.name} SRC {root or kind.folder}\n'
        'If it is prepared already, name its folder with --data-root'
    )
