# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Normalisation of images and pairs with any number of bands for mmseg."""

from typing import Any

import torch
from mmengine.registry import MODELS
from mmseg.models import SegDataPreProcessor

from ...ranges import Deviations, Means


# The second name is spelled as mmseg spells its own.
@MODELS.register_module(['MultiBandSegPreprocessor', 'MultiBandSegDataPreProcessor'])
class MultiBandSegPreprocessor(SegDataPreProcessor):
    """mmseg's data preprocessor for other numbers of bands than one and three.

    Args:
        mean: Mean of each band, in the order of the loaded bands, on the scale of the
            loaded values (0-255 with ``LoadImagery``); or one value for all bands.
        std: Standard deviation likewise.
        **kwargs: ``size``, ``size_divisor``, ``pad_val``, ``seg_pad_val`` and
            ``test_cfg`` of mmseg's ``SegDataPreProcessor``.

    Raises:
        ValueError: If ``mean`` and ``std`` differ in number.
    """

    #: Images stacked on the channels of an input, which are normalised alike.
    num_dates = 1

    def __init__(self, mean: Means, std: Deviations, **kwargs: Any) -> None:
        if len(mean) != len(std):
            raise ValueError(
                f'{type(self).__name__}: {len(mean)} values of mean, but {len(std)} '
                'of std; both need one for each band'
            )
        super().__init__(**kwargs)
        # The parent takes one or three values only.
        self._enable_normalize = True
        repeats = self.num_dates if len(mean) > 1 else 1
        for name, values in (('mean', mean), ('std', std)):
            tensor = torch.tensor([*values] * repeats, dtype=torch.float32)
            self.register_buffer(name, tensor.view(-1, 1, 1), False)


@MODELS.register_module()
class BitemporalPreprocessor(MultiBandSegPreprocessor):
    """Normalise, pad and stack pairs, (2C, H, W), of any number C of bands.

    The default brings 0-255 to 0-1 and normalises no further, as the published change
    detection does (its README in configs).

    Args:
        mean: Mean of each of the C bands, used for both dates; or one value for all.
        std: Standard deviation likewise.
        **kwargs: As for :class:`MultiBandSegPreprocessor`. Training needs ``size`` or
            ``size_divisor``.
    """

    num_dates = 2

    def __init__(
        self,
        mean: Means = (0.0,),
        std: Deviations = (255.0,),
        **kwargs: Any,
    ) -> None:
        super().__init__(mean, std, **kwargs)
