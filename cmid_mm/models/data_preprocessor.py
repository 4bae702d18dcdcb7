# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Normalisation and masking of view pairs on the training device."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from ..ranges import Count, Deviations, Means


@MODELS.register_module()
class ViewPairPreprocessor(BaseDataPreprocessor):
    """Turn packed view pairs into normalised and masked image batches.

    Workers ship small integers; all arithmetic on whole images happens here,
    batched, on the device. The length of ``mean`` is the number of bands of the
    whole pipeline: the model builds its stem and its decoder from it.

    Args:
        mean (Sequence[float]): Mean of each band, on the 0-255 scale, in the
            order of the loaded bands (RGB for photographs).
        std (Sequence[float]): Standard deviation of each band, same scale.
        mask_fill (str): What replaces the masked pixels of the student's input:
            ``'mean'``, the mean of that image and band over the whole view, or
            ``'zero'``, the data set's mean. Defaults to ``'mean'``.
        channels_last (bool): Lay images out channels last, the faster layout for
            convolutional networks. Defaults to False.

    Raises:
        ValueError: If ``mean`` and ``std`` differ in length, a ``std`` is not
            positive, or ``mask_fill`` is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Means,
        std: Deviations,
        mask_fill: str = 'mean',
        channels_last: bool = False,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        if len(mean) != len(std):
            raise ValueError(
                f'data_preprocessor: mean has {len(mean)} bands, std {len(std)}; '
                'give one value of each for every band'
            )
        if min(std) <= 0:
            raise ValueError(f'data_preprocessor: std must be positive, got {std}')
        if mask_fill not in ('mean', 'zero'):
            raise ValueError(
                "data_preprocessor: mask_fill must be 'mean' or 'zero', "
                f'got {mask_fill!r}'
            )
        self.mask_fill = mask_fill
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        shape = (1, -1, 1, 1)
        self.register_buffer('mean', torch.tensor(mean).view(shape), False)
        self.register_buffer('std', torch.tensor(std).view(shape), False)

    @property
    def num_bands(self) -> int:
        """Number of image bands."""
        return self.mean.numel()

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise images.

        Args:
            images (Tensor): Any dtype, 0-255 scale, (B, C, H, W).

        Returns:
            Tensor: float32, (B, C, H, W).

        Raises:
            ValueError: If the images do not have ``num_bands`` bands.
        """
        if images.shape[1] != self.num_bands:
            raise ValueError(
                f'images have {images.shape[1]} bands, but data_preprocessor has a '
                f'mean for {self.num_bands}; select bands in LoadImagery or give '
                'mean and std for each band (tools/dataset_stats.py measures them)'
            )
        images = images.to(torch.float32, memory_format=self.memory_format)
        return (images - self.mean) / self.std

    def fill_masked(self, images: Tensor, masks: Tensor) -> Tensor:
        """Replace the pixels of masked cells.

        Args:
            images (Tensor): Normalised, (B, C, H, W).
            masks (Tensor): Boolean cells, True where masked, (B, h, w).

        Returns:
            Tensor: (B, C, H, W).
        """
        pixels = upsample_mask(masks, images.shape[-2:])
        if self.mask_fill == 'mean':
            fill = images.mean((2, 3), keepdim=True)
        else:
            fill = images.new_zeros(1)
        return torch.where(pixels, fill, images)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise a batch.

        Args:
            data (dict): Collated samples. View pairs: ``inputs`` (B, 2, C, S, S),
                ``masks`` (B, 2, h, w), ``boxes`` (B, 2, 5) and ``index`` (B,), and
                ``crops`` (B, K, C, s, s) if the pipeline makes some.
                Plain images: ``inputs`` (B, C, H, W).
            training (bool): Unused; the same arithmetic serves both modes.

        Returns:
            dict: For view pairs ``images`` and ``masked_images``, two tensors
            (B, C, S, S) each, one a view, ``masks``, two (B, h, w),
            ``boxes``, two (B, 5), and ``crops``, K (B, C, s, s); for plain images
            ``inputs`` only.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        if inputs.ndim == 4:
            return dict(inputs=self.normalize(inputs))
        crops = data['crops'].unbind(1) if 'crops' in data else ()
        images = [self.normalize(view) for view in inputs.unbind(1)]
        masks = list(data['masks'].unbind(1))
        return dict(
            images=images,
            masked_images=[
                self.fill_masked(image, mask)
                for image, mask in zip(images, masks, strict=True)
            ],
            masks=masks,
            boxes=list(data['boxes'].unbind(1)),
            crops=[self.normalize(crop) for crop in crops],
        )


@MODELS.register_module()
class SelfSupViewPreprocessor(ViewPairPreprocessor):
    """The same view pairs as mmpretrain's self-supervised algorithms take them.

    With ``data_preprocessor=dict(type='SelfSupViewPreprocessor')`` any of them
    trains on CMID's data pipeline, with any number of bands: those that compare
    views on the two unmasked views, those that reconstruct on both, one after the
    other in one batch of 2B images.

    Args:
        stack_views (bool): Hand both views over as one batch, for algorithms that
            take single images (MAE, SimMIM). Defaults to False, a list of two.
        mask_stride (int, optional): Side in pixels of the cells that the
            algorithm's masks consist of, which must divide those of ``MaskPair``
            (SimMIM with Swin: 4, its patches). Defaults to None, no masks.
        **kwargs: Arguments of :class:`ViewPairPreprocessor`.

    Raises:
        ValueError: If masks are wanted of views that are not stacked.
    """

    def __init__(
        self,
        *args: Any,
        stack_views: bool = False,
        mask_stride: Count | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if mask_stride and not stack_views:
            raise ValueError(
                'SelfSupViewPreprocessor: mask_stride needs stack_views=True'
            )
        self.stack_views = stack_views
        self.mask_stride = mask_stride

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise a batch.

        Args:
            data (dict): Collated samples, as :class:`ViewPairPreprocessor` takes
                them.
            training (bool): Unused; the same arithmetic serves both modes.

        Returns:
            dict: ``inputs``, two tensors (B, C, S, S) or one (2B, C, S, S), and
            ``data_samples``, None or 2B samples with ``mask``, float, 1 where
            masked, (S / mask_stride, S / mask_stride).
        """
        data = self.cast_data(data)
        views = data['inputs']
        if views.ndim == 4:
            return dict(inputs=self.normalize(views), data_samples=None)
        images = [self.normalize(view) for view in views.unbind(1)]
        if not self.stack_views:
            return dict(inputs=images, data_samples=None)
        inputs = torch.cat(images)
        samples = None
        if self.mask_stride:
            size = [side // self.mask_stride for side in inputs.shape[-2:]]
            masks = upsample_mask(torch.cat(data['masks'].unbind(1)), size)
            samples = [DataSample(mask=mask[0].float()) for mask in masks]
        return dict(inputs=inputs, data_samples=samples)


def upsample_mask(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Resize masks of coarse cells to a finer grid by nearest neighbour.

    Args:
        masks (Tensor): Boolean, (B, h, w).
        size (Sequence[int]): Height and width of the finer grid.

    Returns:
        Tensor: Boolean, (B, 1, height, width).
    """
    return F.interpolate(masks[:, None].float(), size=tuple(size)) > 0.5
