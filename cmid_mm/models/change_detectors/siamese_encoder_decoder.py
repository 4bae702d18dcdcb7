# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""One backbone for both dates of a pair."""

import torch
from mmengine.registry import MODELS
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

#: Feature maps of one date, from the finest to the coarsest.
Features = tuple[Tensor, ...]


@MODELS.register_module()
class SiameseEncoderDecoder(EncoderDecoder):
    """Segment what changed between two dates (its README in configs).

    Inputs are pairs stacked on channels, (B, 2C, H, W): the C bands of the first
    date, then those of the second. Training, whole-image and sliding-window
    inference and flips at test time are those of mmseg's ``EncoderDecoder``.

    Both dates go through the backbone in one batch of 2B images. One after the other,
    as in BIT, BatchNorm would normalise each date by its own statistics in training,
    but both by their mixture in testing; where season and light differ between the
    dates, the features of the test are then not those that the head was trained on.

    Args:
        backbone (dict): Config of any backbone that returns a tuple of maps.
        decode_head (dict): Config of a head that takes the features of both dates,
            such as :class:`BITHead`.
        **kwargs: As for mmseg's ``EncoderDecoder``; a neck sees each date alone, an
            auxiliary head gets both.
    """

    def extract_feat(self, inputs: Tensor) -> tuple[Features, Features]:
        """Features of both dates.

        Args:
            inputs (Tensor): (B, 2C, H, W).

        Returns:
            tuple: Feature maps of the first and of the second date.

        Raises:
            ValueError: If the number of channels is odd.
        """
        if inputs.shape[1] % 2:
            raise ValueError(
                'SiameseEncoderDecoder: inputs are two dates stacked on channels, '
                f'got an odd number of channels, {inputs.shape[1]}'
            )
        dates = torch.cat(inputs.chunk(2, dim=1))  # (2B, C, H, W)
        maps = super().extract_feat(dates)
        pairs = inputs.shape[0]
        # A graph of chunks is one of lists, which not every runtime has.
        before = tuple(features[:pairs] for features in maps)
        after = tuple(features[pairs:] for features in maps)
        return before, after
