# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Bands of the images, of their statistics and of the backbone."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch import Tensor

from ...models.measuring import input_bands


@HOOKS.register_module()
class InputBandsHook(Hook):
    """Refuse images with more or fewer bands than the config is written for.

    Looks at the first batch before the model does: ``mean`` and ``std`` of the data
    preprocessor need a value for each band of the images (or one for all), and the
    first convolution of the backbone has to take them.

    Raises:
        ValueError: At the first batch, if the numbers differ; names the setting.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Check the first batch of an epoch."""
        self._check(runner, batch_idx, data_batch)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Likewise."""
        self._check(runner, batch_idx, data_batch)

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Likewise."""
        self._check(runner, batch_idx, data_batch)

    def _check(self, runner: Runner, batch_idx: int, data_batch: Any) -> None:
        inputs = data_batch['inputs']
        # A list holds batches, one a view, or single images.
        image = inputs if isinstance(inputs, Tensor) else inputs[0]
        if batch_idx or not isinstance(image, Tensor):
            return
        model: Any = get_ori_model(runner.model)
        preprocessor = model.data_preprocessor
        dates = getattr(preprocessor, 'num_dates', 1)
        bands = image.shape[-3] // dates
        inside = 'data_preprocessor' in (runner.cfg.get('model') or {})
        prefix = 'model.' if inside else ''
        for name in ('mean', 'std'):
            values = getattr(preprocessor, name, None)
            if values is not None and values.numel() not in (1, bands * dates):
                raise ValueError(
                    f'{prefix}data_preprocessor.{name} has {values.numel() // dates} '
                    f'values, but the images have {bands} bands; give a value for each '
                    '(tools/dataset_stats.py measures them), or choose bands by '
                    'bands=[...] of the transform that loads the images'
                )
        key, owner = 'model.backbone', model
        if hasattr(model, 'student'):
            key, owner = 'model.encoder.backbone', model.student
        taken = input_bands(owner.backbone)
        if taken not in (None, bands):
            raise ValueError(
                f'the images have {bands} bands, but {key} takes '
                f'{taken}; set {key}.in_channels={bands} '
                '(MAE and SimMIM have more settings, see configs/baselines/README.md)'
            )
