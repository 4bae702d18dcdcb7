# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""One backbone for both dates of a pair."""

from mmengine.registry import MODELS
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

#: Feature maps of one date, from the finest to the coarsest.
Features = tuple[Tensor, ...]


@MODELS.register_module()
class SiameseEncoderDecoder(EncoderDecoder):
    """Segment what changed between two dates (method.md section 8).

    Inputs are pairs stacked on channels, (B, 2C, H, W): the C bands of the first
    date, then those of the second. Training, whole-image and sliding-window
    inference and flips at test time are those of mmseg's ``EncoderDecoder``.

    The dates go through the backbone one after the other, as in BIT, not as one batch
    of 2B images: BatchNorm then takes its statistics from images of one date, so that
    a difference in season or light between the dates is normalised away rather than
    mixed into both.

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
        before, after = inputs.chunk(2, dim=1)
        return super().extract_feat(before), super().extract_feat(after)
