# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How masks reach the backbone: by a token, or by leaving hidden cells out."""

import copy
import inspect
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import Count, NonNegative
from ..data_preprocessor import upsample_mask
from ..measuring import FeatureShape, feature_map, measure
from ..parts import build_part


class StudentEncoder(BaseModule):
    """A backbone, and what masks make of its input. Base of the encoders.

    Args:
        backbone: A backbone that returns feature maps, or its config.
    """

    #: Whether what stands at masked pixels of the input plays a part.
    reads_masked_pixels = True

    def __init__(
        self, backbone: dict | nn.Module, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.backbone: nn.Module = (
            backbone if isinstance(backbone, nn.Module) else build_part(backbone)
        )
        self._outputs: dict[int, FeatureShape] = {}

    def output(self, stage: int = -1) -> FeatureShape:
        """Width and stride of a feature map, measured when first asked for.

        Args:
            stage: Index of the backbone's output, ``-1`` for the last.
        """
        if stage not in self._outputs:
            self._outputs[stage] = measure(self.backbone, stage=stage)
        return self._outputs[stage]

    def copy_backbone(self) -> nn.Module:
        """A copy of the backbone that sees whole images.

        It takes its initial weights from this one, not from a file of its own.
        """
        backbone: Any = copy.deepcopy(self.backbone)
        backbone.is_init = True
        return backbone

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode images.

        Args:
            images (Tensor): Normalised images, (B, C, H, W).
            mask (Tensor, optional): Boolean cells, True where masked, (B, h, w).
                None encodes whole images. Defaults to None.

        Returns:
            Tensor: Last feature map, (B, D, H / F, W / F).
        """
        return feature_map(self.stages(images, mask))

    def stages(self, images: Tensor, mask: Tensor | None = None) -> Any:
        """Encode images; all that the backbone gives.

        Args:
            images: As in :meth:`forward`.
            mask: As in :meth:`forward`.

        Returns:
            What the backbone returns; :func:`feature_map` takes one of its maps.
        """
        raise NotImplementedError(f'{type(self).__name__} must define stages()')


@MODELS.register_module()
class MaskedEncoder(StudentEncoder):
    """Backbone whose masked positions receive a learnable token.

    The token enters behind a named sub-module of an unmodified backbone, by a
    forward hook, so the backbone's class and its state-dict names stay what they
    are. It is added to the features of masked positions (docs/method.md, Hiding).

    Args:
        backbone (dict | nn.Module): A backbone that returns a tuple of feature
            maps, the last of which is used.
        insert_after (str): Name of the sub-module whose output receives the
            token: ``'maxpool'`` in ResNet, ``'patch_embed'`` in Swin and ViT,
            ``'downsample_layers.0'`` in ConvNeXt. Its output is a feature map
            (B, C, H, W), or tokens (B, H*W, C), alone or first in a tuple.
        channels (int, optional): Width C of that output. Defaults to None, measured.
        stride (int, optional): Pixels of the image per position of that output.
            Defaults to None, measured.
        token_std (float): Standard deviation of the token's initial values; 0
            starts it at zero. Defaults to 0.
        mode (str): ``'add'`` adds the token to masked positions, ``'replace'``
            puts it in their place. Defaults to ``'add'``.

    Raises:
        ValueError: If ``insert_after`` names no sub-module or ``mode`` is unknown.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        insert_after: str,
        channels: Count | None = None,
        stride: Count | None = None,
        token_std: NonNegative = 0.0,
        mode: str = 'add',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(backbone, init_cfg)
        if mode not in ('add', 'replace'):
            raise ValueError(f"mode must be 'add' or 'replace', got {mode!r}")
        self.insert_after = insert_after
        self.mode = mode
        self._mask: Tensor | None = None
        modules = dict(self.backbone.named_modules())
        if insert_after not in modules or not insert_after:
            raise ValueError(
                f'insert_after={insert_after!r} names no sub-module of '
                f'{type(self.backbone).__name__}; its top-level ones are '
                f'{[name for name, _ in self.backbone.named_children()]}'
            )
        if channels is None or stride is None:
            found = measure(self.backbone, insert_after)
            channels, stride = channels or found.channels, stride or found.stride
        self.stride = stride
        self.mask_token = nn.Parameter(token_std * torch.randn(channels))
        self._hook = modules[insert_after].register_forward_hook(self._insert)

    def copy_backbone(self) -> nn.Module:
        """As :class:`StudentEncoder` does, without the mask token's hook."""
        self._hook.remove()
        backbone = super().copy_backbone()
        module = self.backbone.get_submodule(self.insert_after)
        self._hook = module.register_forward_hook(self._insert)
        return backbone

    def stages(self, images: Tensor, mask: Tensor | None = None) -> Any:
        """Encode images, with the token where they are masked."""
        if mask is not None:
            size = [-(-side // self.stride) for side in images.shape[-2:]]
            mask = upsample_mask(mask, size)  # B 1 H/stride W/stride
        self._mask = mask
        try:
            return self.backbone(images)
        finally:
            self._mask = None

    def _insert(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if self._mask is None:
            return output
        if isinstance(output, tuple):
            return (self._blend(output[0], self._mask), *output[1:])
        return self._blend(output, self._mask)

    def _blend(self, features: Tensor, mask: Tensor) -> Tensor:
        if features.ndim == 4:
            token = self.mask_token[:, None, None]
            fits = features.shape[-2:] == mask.shape[-2:]
        else:
            token = self.mask_token
            mask = mask.flatten(2).transpose(1, 2)  # B L 1
            fits = features.shape[1] == mask.shape[1]
        if not fits:
            raise ValueError(
                f'{self.insert_after!r} gives features of shape '
                f'{tuple(features.shape)}, which is not one position per '
                f'{self.stride} pixels; correct stride or insert_after'
            )
        width = features.shape[1 if features.ndim == 4 else 2]
        if width != len(self.mask_token):
            raise ValueError(
                f'{self.insert_after!r} gives features of {width} channels, but '
                f'channels={len(self.mask_token)} of the encoder; leave channels out, '
                'so that they are measured'
            )
        token = token.to(features.dtype)
        if self.mode == 'replace':
            return torch.where(mask, token, features)
        return features + mask * token


@MODELS.register_module()
class VisibleEncoder(StudentEncoder):
    """Backbone that encodes the visible cells alone.

    It reads no masked pixel, and no token takes their place: masked positions of its
    feature maps hold the mean of the visible ones, so that pooled features are the mean
    of what is seen. A reconstruction head then needs a decoder that looks around
    (``hidden_channels``).

    Args:
        backbone: One that takes ``visible`` beside images: :class:`VisibleResNet`,
            :class:`VisibleConvNeXt`, :class:`VisibleHiera`.

    Raises:
        ValueError: If the backbone cannot leave cells out; in a forward pass if cells
            are not whole positions of its last feature map.
    """

    reads_masked_pixels = False

    def __init__(
        self, backbone: dict | nn.Module, init_cfg: dict | None = None
    ) -> None:
        super().__init__(backbone, init_cfg)
        if 'visible' not in inspect.signature(self.backbone.forward).parameters:
            raise ValueError(
                f'VisibleEncoder: {type(self.backbone).__name__} cannot leave cells '
                'out; take VisibleResNet, VisibleConvNeXt or VisibleHiera, or '
                'MaskedEncoder'
            )
        self.stride = self.output().stride

    def stages(self, images: Tensor, mask: Tensor | None = None) -> Any:
        """Encode the visible cells."""
        if mask is None:
            return self.backbone(images)
        side, cells = images.shape[-1], mask.shape[-1]
        if side % (cells * self.stride):
            raise ValueError(
                f'MaskPair.patch_size={side // cells}, of images of {side} pixels: '
                f'expected a multiple of {self.stride}, the stride of '
                f'{type(self.backbone).__name__}; set it to {self.stride}'
            )
        hidden = upsample_mask(mask, images.shape[-2:])
        maps = self.backbone(images.masked_fill(hidden, 0), ~mask)
        return tuple(_fill_hidden(features, mask) for features in maps)


def _fill_hidden(features: Tensor, mask: Tensor) -> Tensor:
    """Put the mean of visible positions at hidden ones.

    Args:
        features: Feature map, zero at hidden positions, (B, D, h, w).
        mask: Boolean cells, True where hidden.
    """
    hidden = upsample_mask(mask, features.shape[-2:])  # B 1 h w
    count = (~hidden).sum((2, 3), keepdim=True).clamp(min=1)
    mean = features.sum((2, 3), keepdim=True) / count
    return torch.where(hidden, mean.to(features.dtype), features)
