# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""OpenMMLab's inferencers on configs that load images by this package.

The inferencers of mmpretrain, mmseg and mmdet look for ``LoadImageFromFile`` in the
test pipeline, to read the image themselves or to put a loader in its place that takes
arrays too. They would not find ``LoadImagery``, nor could they read its other bands and
bits. So, where a pipeline begins with a loader of this package, they hand it what they
are given. All else is left to them.
"""

import functools
import importlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate

from ..configs import innermost_dataset, scope_of, type_name
from .model_index import config_files
from .task import image_pipeline

#: Loaders of this package, which take files and arrays themselves.
LOADERS = ('LoadImagery', 'LoadImagePair')

_INFERENCERS = {
    'mmpretrain.apis': ('ImageClassificationInferencer', 'FeatureExtractor'),
    'mmseg.apis': ('MMSegInferencer',),
    'mmdet.apis': ('DetInferencer',),
}


def own_pipeline(cfg: Config) -> Compose | None:
    """The pipeline for new images of a config, from a file or an array.

    Args:
        cfg: Config of any task, or of a pre-training, whose images are then loaded as
            there and not cut.

    Returns:
        None if another package loads the images.
    """
    if cfg.get('test_dataloader') is not None:
        steps = image_pipeline(cfg)
    else:
        loader = innermost_dataset(cfg, 'train')['pipeline'][0]
        steps = [loader, dict(type='mmpretrain.PackInputs')]
    if type_name(steps[0]) not in LOADERS:
        return None
    with scope_of(cfg):
        return Compose([_named, *steps])


def _named(given: Any) -> dict[str, Any]:
    """What transforms take, of what inferencers are given.

    Args:
        given: A file, an array, two files of a place, or a dict of a file or an array.
    """
    if isinstance(given, dict):
        named = dict(given)
    elif isinstance(given, np.ndarray):
        named = dict(img=given)
    elif isinstance(given, (str, Path)):
        named = dict(img_path=str(given))
    else:
        first, second = map(str, given)
        named = dict(img_path=first, img_path2=second)
    return dict(named, img_id=0)


def _adapt(inferencer: Any) -> None:
    stock_pipeline, stock_preprocess = inferencer._init_pipeline, inferencer.preprocess

    @functools.wraps(stock_pipeline)
    def init_pipeline(self: Any, cfg: Config) -> Any:
        self.loads_itself = own_pipeline(cfg)
        return self.loads_itself or stock_pipeline(self, cfg)

    @functools.wraps(stock_preprocess)
    def preprocess(
        self: Any, inputs: Sequence[Any], batch_size: int = 1, **options: Any
    ) -> Iterator[Any]:
        if self.loads_itself is None:
            yield from stock_preprocess(self, inputs, batch_size, **options)
        else:
            samples = map(self.pipeline, inputs)
            yield from map(default_collate, self._get_chunk_data(samples, batch_size))

    inferencer._init_pipeline = init_pipeline
    if hasattr(inferencer, '_load_model_from_metafile'):
        stock_by_name = inferencer._load_model_from_metafile

        @functools.wraps(stock_by_name)
        def by_name(self: Any, model: str) -> Any:
            config = config_files().get(model)
            if config is None:
                return stock_by_name(self, model)
            return Config.fromfile(config), None  # weights are given, or none

        inferencer._load_model_from_metafile = by_name
    if inferencer.__module__.startswith('mmpretrain.'):  # reads images before
        inferencer.preprocess = preprocess


for _package, _names in _INFERENCERS.items():
    with suppress(ImportError, AssertionError):  # not installed, or not in this version
        for _name in _names:
            _adapt(getattr(importlib.import_module(_package), _name))
