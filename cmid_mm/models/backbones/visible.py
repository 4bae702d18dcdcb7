# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Hierarchical backbones that encode the visible cells of an image alone.

Each takes ``visible``, boolean cells (B, h, w), beside the images; without, it is the
backbone that it is named after, with its parameters by the same names. What it gives of
hidden cells is zero.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmpretrain.models.backbones import ConvNeXt, ResNet
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from mmpretrain.models.utils import GRN, LayerNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...dependencies import timm_library
from ...ranges import Count
from ..data_preprocessor import upsample_mask

#: What mixes positions, or fills hidden ones.
_MIXING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, ConvNeXtBlock)


@contextmanager
def visible_cells(network: nn.Module, visible: Tensor) -> Iterator['_Seen']:
    """Keep hidden cells at zero within a convolutional network, as long as this lasts.

    After Tian et al., "Designing BERT for Convolutional Networks" (SparK), ICLR 2023:
    convolutions and pooling give zero at hidden positions, and norms take no statistics
    there, so that masks neither wear away from layer to layer nor shift what is seen.
    Unlike with mmpretrain's sparse modules the network stays the plain one: whole
    images of any shape cost what they always did.

    Args:
        network: Of the parts of mmpretrain's ResNet and ConvNeXt.
        visible: Boolean cells, each one position of the last feature map or several,
            (B, h, w).

    Yields:
        The visible positions of a feature map, by its height and width.
    """
    seen = _Seen(visible)

    def hide(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output * seen(output.shape[2:])

    def hide_norm(
        module: nn.Module, inputs: Any, options: dict[str, Any], output: Tensor
    ) -> Tensor:
        # Within a block its whole output is hidden.
        if options.get('data_format') == 'channel_last':
            return output
        return hide(module, inputs, output)

    def hide_input(module: nn.Module, inputs: Any, options: dict[str, Any]) -> Any:
        (features,) = inputs
        if options.get('data_format') == 'channel_last':
            where = seen(features.shape[1:3]).permute(0, 2, 3, 1)
        else:
            where = seen(features.shape[2:])
        return (features * where,), options

    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, _MIXING):
                stack.callback(module.register_forward_hook(hide).remove)
            elif isinstance(module, LayerNorm2d):
                handle = module.register_forward_hook(hide_norm, with_kwargs=True)
                stack.callback(handle.remove)
            elif isinstance(module, GRN):
                handle = module.register_forward_pre_hook(hide_input, with_kwargs=True)
                stack.callback(handle.remove)
            elif isinstance(module, _BatchNorm):
                # Also what sync_bn has put in the place of a norm.
                norm: Any = module
                norm.forward = _of_visible(norm.forward, seen)
                stack.callback(delattr, module, 'forward')
        yield seen


class _Seen:
    """Visible cells at the resolution of any feature map, (B, 1, H, W)."""

    def __init__(self, cells: Tensor) -> None:
        self.cells = cells
        self.maps: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, size: Sequence[int]) -> Tensor:
        key = tuple(size)
        if key not in self.maps:
            self.maps[key] = upsample_mask(self.cells, key)
        return self.maps[key]


def _of_visible(norm: Callable[[Tensor], Tensor], seen: _Seen) -> Any:
    """A norm over the batch, of visible positions alone."""

    def forward(features: Tensor) -> Tensor:
        where = seen(features.shape[2:])[:, 0]
        positions = features.permute(0, 2, 3, 1)  # B H W C
        normalized = norm(positions[where][:, :, None, None])[:, :, 0, 0]
        whole = normalized.new_zeros(positions.shape)
        whole[where] = normalized
        return whole.permute(0, 3, 1, 2)

    return forward


class _VisibleConvolutions:
    """What a convolutional backbone needs to encode visible cells alone."""

    def __init__(self, with_cp: bool = False, **kwargs: Any) -> None:
        if with_cp:
            raise ValueError(
                f'{type(self).__name__}: with_cp=True would compute again what was '
                'visible, after it is forgotten; leave it out'
            )
        super().__init__(**kwargs)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Any:
        """Encode images.

        Args:
            images: (B, C, H, W).
            visible: Cells to encode, (B, h, w), each one position of the last feature
                map or several. Defaults to None, the whole image.

        Returns:
            The feature maps of ``out_indices``, zero where hidden.
        """
        network: Any = super()
        if visible is None:
            return network.forward(images)
        with visible_cells(self, visible) as seen:  # type: ignore[arg-type]
            outputs = network.forward(images)
        # Norms behind the last blocks have filled hidden positions with their bias.
        return tuple(features * seen(features.shape[2:]) for features in outputs)


@MODELS.register_module()
class VisibleResNet(_VisibleConvolutions, ResNet):
    """mmpretrain's ``ResNet`` that can leave cells out.

    Args:
        with_cp: Not supported.
        **kwargs: Arguments of mmpretrain's ``ResNet``.
    """


@MODELS.register_module()
class VisibleConvNeXt(_VisibleConvolutions, ConvNeXt):
    """mmpretrain's ``ConvNeXt``, or V2 (``use_grn``), that can leave cells out.

    Args:
        with_cp: Not supported.
        gap_before_final_norm: Give pooled vectors; the heads need feature maps.
        **kwargs: Arguments of mmpretrain's ``ConvNeXt``.
    """

    def __init__(self, gap_before_final_norm: bool = False, **kwargs: Any) -> None:
        super().__init__(gap_before_final_norm=gap_before_final_norm, **kwargs)


@MODELS.register_module()
class VisibleHiera(BaseModule):
    """timm's Hiera (Ryali et al., ICML 2023); hidden cells cost nothing.

    The first stages attend within cells of 32 pixels and the last ones over all cells,
    so that a cell can be left out from the beginning.

    Args:
        arch: Name of timm's, such as ``'hiera_tiny_224'``.
        img_size: Side of the images in pixels, a multiple of 32.
        in_channels: Bands of the images.
        out_indices: Stages to give, of 0 to 3.
        drop_path_rate: Share of residual branches left out in training, rising to this.
    """

    #: Pixels of an image per cell, and per position of the last stage.
    CELL = 32

    def __init__(
        self,
        arch: str = 'hiera_tiny_224',
        img_size: Count = 224,
        in_channels: Count = 3,
        out_indices: Sequence[int] = (3,),
        drop_path_rate: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if img_size % self.CELL:
            raise ValueError(
                f'img_size={img_size}: expected a multiple of {self.CELL}, the cells '
                'within which the first stages attend'
            )
        if not set(out_indices) <= {0, 1, 2, 3}:
            raise ValueError(
                f'out_indices={tuple(out_indices)}: expected stages of 0 to 3'
            )
        timm = timm_library()
        known = timm.list_models('hiera_*')
        if arch not in known:
            raise ValueError(
                f'arch={arch!r}: expected a Hiera of timm; known are {", ".join(known)}'
            )
        self.img_size = img_size
        self.out_indices = tuple(out_indices)
        self.timm_model = timm.create_model(
            arch,
            img_size=img_size,
            in_chans=in_channels,
            num_classes=0,
            drop_path_rate=drop_path_rate,
        )
        self.timm_model.head = nn.Identity()

    def forward(
        self, images: Tensor, visible: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            images: (B, C, S, S), S the ``img_size``.
            visible: Cells to encode, (B, h, w), each 32 pixels a side or several times
                as many, in each image as many. Defaults to None, the whole image.

        Returns:
            The feature maps of ``out_indices``, zero where hidden.

        Raises:
            ValueError: If the images are of another size, not of each image as many
                cells are visible, or none is.
        """
        size = self.img_size
        if tuple(images.shape[2:]) != (size, size):
            raise ValueError(
                f'VisibleHiera takes images of img_size={size} pixels a side alone, '
                f'got {tuple(images.shape[2:])}: set img_size to the size of all '
                'images (views, in pre-training, without small crops: '
                'ViewPair.num_crops=0), or give images of that size (--size, --window)'
            )
        if visible is None:
            _, maps = self.timm_model.forward_features(
                images, return_intermediates=True
            )
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        else:
            maps = self._forward_visible(images, visible)
        return tuple(maps[index].contiguous() for index in self.out_indices)

    def _forward_visible(self, images: Tensor, visible: Tensor) -> list[Tensor]:
        side = self.img_size // self.CELL
        visible = upsample_mask(visible, (side, side))
        counts = visible.flatten(1).sum(1)
        if not counts.all():
            raise ValueError('VisibleHiera: no cell of an image is visible')
        if (counts != counts[0]).any():
            raise ValueError(
                'VisibleHiera: of each image as many cells must be visible, but they '
                f'are {counts.min()} to {counts.max()}; set MaskPair.share=1'
            )
        cells = visible.flatten(1)
        _, outputs = self.timm_model.forward_features(
            images, mask=cells, return_intermediates=True
        )
        maps = []
        for output in outputs:  # B visible rows columns D
            rows, columns, width = output.shape[2:]
            features = output.new_zeros(*cells.shape, rows, columns, width)
            features[cells] = output.flatten(0, 1)
            features = features.unflatten(1, (side, side))  # B h w rows columns D
            features = features.permute(0, 5, 1, 3, 2, 4)
            maps.append(features.flatten(4).flatten(2, 3))
        return maps
