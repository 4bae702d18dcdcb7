# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Focal frequency loss of the reconstruction branch (spectral term)."""

import torch
import torch.distributed.nn
from mmengine import dist
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ranks import mean_over_ranks


@MODELS.register_module()
class FocalFrequencyLoss(nn.Module):
    r"""Distance of two spectra that weighs hard frequencies more.

    With :math:`D` the modulus of the difference of the orthonormal 2-D Fourier
    transforms of ``pred`` and ``target``, and the weight
    :math:`w = \log(D + 1) / \max \log(D + 1)` taken as a constant, the loss is
    the mean of :math:`w D^2` (method: CMID paper, Sec. III-B; after Jiang et
    al., "Focal Frequency Loss", ICCV 2021).

    Args:
        spectrum (str): ``'batch_mean'`` compares the spectra averaged over the
            minibatch (over all processes in distributed training);
            ``'per_image'`` compares image by image. Defaults to
            ``'batch_mean'``.
    """

    def __init__(self, spectrum: str = 'batch_mean') -> None:
        super().__init__()
        if spectrum not in ('batch_mean', 'per_image'):
            raise ValueError(
                f"spectrum must be 'batch_mean' or 'per_image', got {spectrum!r}"
            )
        self.spectrum = spectrum

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss in float32, also under mixed precision.

        Args:
            pred (Tensor): (B, C, H, W).
            target (Tensor): (B, C, H, W).

        Returns:
            Tensor: Scalar.
        """
        with torch.autocast(pred.device.type, enabled=False):
            # The transform is linear: the difference of the spectra is the
            # spectrum of the difference, and the mean of spectra that of a mean.
            difference = pred.float() - target.float()
            if self.spectrum == 'batch_mean':
                difference = mean_over_ranks(difference.mean(0, keepdim=True))
            spectrum = torch.view_as_real(torch.fft.fft2(difference, norm='ortho'))
            power = spectrum.square().sum(-1)
            with torch.no_grad():
                weight = torch.log1p(power.sqrt())
                peak = weight.max()
                dist.all_reduce(peak, op='max')
                # An all-zero difference divides 0 by 0.
                weight = (weight / peak).nan_to_num(nan=0.0).clamp(0.0, 1.0)
            return (weight * power).mean()
