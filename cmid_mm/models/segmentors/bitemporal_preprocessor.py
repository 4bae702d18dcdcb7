# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Normalising of image pairs."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from mmseg.models import SegDataPreProcessor


@MODELS.register_module()
class BitemporalPreprocessor(SegDataPreProcessor):
    """Normalise, pad and stack pairs, (2C, H, W), of any number C of bands.

    mmseg's own takes one or three channels. The default brings 0-255 to 0-1 and
    normalises no further, as the published change detection does (method.md
    section 8).

    Args:
        mean (Sequence[float]): Mean of each of the C bands, on the 0-255 scale, used
            for both dates; or one value for all bands. Defaults to (0,).
        std (Sequence[float]): Standard deviation likewise. Defaults to (255,).
        **kwargs: ``size``, ``size_divisor``, ``pad_val``, ``seg_pad_val`` and
            ``test_cfg`` of mmseg's ``SegDataPreProcessor``. Training needs one of the
            first two.

    Raises:
        ValueError: If ``mean`` and ``std`` are not of one length.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (255.0,),
        **kwargs: Any,
    ) -> None:
        if len(mean) != len(std):
            raise ValueError(
                'BitemporalPreprocessor: mean and std must have one value for each '
                f'band, got {len(mean)} and {len(std)} values'
            )
        super().__init__(mean=[0.0], std=[1.0], **kwargs)
        dates = 1 if len(mean) == 1 else 2
        self.mean = torch.tensor([*mean] * dates, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor([*std] * dates, dtype=torch.float32).view(-1, 1, 1)
