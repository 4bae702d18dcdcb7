# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Parts of mmpretrain's masked image modelling, where they need a repair."""

from mmengine.registry import MODELS
from mmpretrain.models.necks import SimMIMLinearDecoder
from torch import nn

from ...ranges import Count


@MODELS.register_module()
class SimMIMDecoder(SimMIMLinearDecoder):
    """SimMIM's decoder for any number of bands; the parent knows 3 only.

    Args:
        in_channels (int): Width of the feature map.
        encoder_stride (int): Pixels of the image per position of the feature map.
        num_bands (int): Bands of the images. Defaults to 3.
    """

    def __init__(
        self, in_channels: Count, encoder_stride: Count, num_bands: Count = 3
    ) -> None:
        super().__init__(in_channels, encoder_stride)
        if num_bands != 3:
            channels = num_bands * encoder_stride**2
            self.decoder[0] = nn.Conv2d(in_channels, channels, 1)
