# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Normalisation of images with any number of bands for mmseg."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS

from ...dependencies import check_dependencies

check_dependencies({'mmseg': '1.0.0'})

from mmseg.models import SegDataPreProcessor  # noqa: E402


@MODELS.register_module()
class MultiBandSegDataPreProcessor(SegDataPreProcessor):
    """mmseg's data preprocessor for other numbers of bands than one and three.

    Args:
        mean (Sequence[float]): Mean of each band, in the order of the loaded bands, on
            the scale of the loaded values (0-255 with ``LoadImagery``).
        std (Sequence[float]): Standard deviation of each band.
        **kwargs: As for mmseg's ``SegDataPreProcessor``, without exchange of red and
            blue.

    Raises:
        ValueError: If ``mean`` and ``std`` differ in number.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], **kwargs: Any
    ) -> None:
        if len(mean) != len(std):
            raise ValueError(
                f'MultiBandSegDataPreProcessor: {len(mean)} values of mean, but '
                f'{len(std)} of std; both need one for each band'
            )
        super().__init__(**kwargs)
        # The parent takes one or three values only.
        self._enable_normalize = True
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)
