# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Bands of the images and of the backbone."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model

from ...models.measuring import input_bands


@HOOKS.register_module()
class InputBandsHook(Hook):
    """Refuse a backbone that takes more or fewer bands than the images have.

    ``CMID`` builds its backbone for the bands of its data preprocessor. Other
    algorithms do not know it; the first convolution of their backbone counts.

    Raises:
        ValueError: When training begins, if the numbers differ.
    """

    def before_train(self, runner: Runner) -> None:
        """Compare the backbone with the data preprocessor."""
        model: Any = get_ori_model(runner.model)
        bands = model.data_preprocessor.num_bands
        taken = input_bands(model.backbone)
        if taken != bands:
            raise ValueError(
                f'data_preprocessor has a mean for {bands} bands, but model.backbone '
                f'takes {taken}; set model.backbone.in_channels={bands} '
                '(MAE and SimMIM have more settings, see configs/baselines/README.md)'
            )
