# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Plain transformers with rotated varied-size window attention."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from mmengine.registry import MODELS
from mmengine.utils import to_2tuple
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...ranges import Count, Share
from .rotated_window_attention import MapAttention, RotatedWindowAttention


class PatchEmbed(nn.Module):
    """Patches of an image as positions of a map.

    Args:
        in_channels (int): Bands of the image.
        embed_dims (int): Width of the map.
        patch_size (int): Side of a patch in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (B, bands, H, W), padded with zeros at the right and bottom.

        Returns:
            Tensor: (B, C, ceil(H / patch), ceil(W / patch)).
        """
        bottom, right = (-side % self.patch_size for side in images.shape[-2:])
        return self.proj(F.pad(images, (0, right, 0, bottom)))


class RVSABlock(nn.Module):
    """Transformer block, pre-norm; optionally with ViTAE's convolution branch.

    The branch sees the block's input as it is, not normalised, beside the attention.

    Args:
        attention (MapAttention): The attention.
        embed_dims (int): Width.
        mlp_ratio (int): Hidden width of the feed-forward part, and of the convolution
            branch, in multiples of ``embed_dims``.
        drop_path_rate (float): Odds of skipping a branch for a sample in training.
        convolution_branch (bool): Whether there is a convolution branch.
    """

    def __init__(
        self,
        attention: MapAttention,
        embed_dims: int,
        mlp_ratio: int,
        drop_path_rate: float,
        convolution_branch: bool,
    ) -> None:
        super().__init__()
        hidden = mlp_ratio * embed_dims
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(embed_dims, hidden),
                act=nn.GELU(),
                fc2=nn.Linear(hidden, embed_dims),
            )
        )
        self.PCM: nn.Module | None = None
        if convolution_branch:
            groups = embed_dims // 4
            self.PCM = nn.Sequential(
                nn.Conv2d(embed_dims, hidden, 3, padding=1, groups=groups),
                nn.BatchNorm2d(hidden),
                nn.SiLU(),
                nn.Conv2d(hidden, embed_dims, 3, padding=1, groups=groups),
            )
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Update a map (B, H, W, C)."""
        update = self.drop_path(self.attn(self.norm1(x)))
        if self.PCM is not None:
            local = self.PCM(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            update = update + self.drop_path(local)
        x = x + update
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a map (B, C, H, W).

    Args:
        channels (int): C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; returns the same shape."""
        return self.ln(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class RVSAViT(BaseModule):
    """Plain vision transformer with rotated windows (Wang et al., TGRS 2022).

    Most blocks attend in windows whose keys and values are sampled from rotated, scaled
    and shifted windows (:class:`RotatedWindowAttention`); every ``interval``-th block
    attends to the whole map. Parameters have the names of the released weights.

    Images may have any size. Position tables are made for ``img_size`` and
    interpolated for others; images are padded with zeros at the right and bottom to
    whole patches, maps on all sides to whole windows, and maps are cropped again.

    Args:
        img_size (int | tuple[int, int]): Height and width of the images, in pixels,
            that the position tables are made for. Defaults to 224.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        in_channels (int): Bands of the images. Defaults to 3.
        embed_dims (int): Width. Defaults to 768.
        depth (int): Number of blocks. Defaults to 12.
        num_heads (int): Attention heads. Defaults to 12.
        mlp_ratio (int): Hidden width of the feed-forward parts in multiples of
            ``embed_dims``. Defaults to 4.
        window_size (int): Positions along a window's side. Defaults to 7.
        interval (int): Every how many blocks one attends to the whole map; at least
            2. Defaults to 3.
        drop_path_rate (float): Odds of skipping a branch in the last block, rising
            linearly from 0 in the first. Defaults to 0.
        out_type (str): ``'featmap'``: a map (B, C, h, w), one position a patch, of each
            block in ``out_indices``; ``'avg_featmap'``: the mean of each map, (B, C),
            as the released classifiers take it; ``'pyramid'``: four maps with 4, 2, 1
            and 1/2 positions along a patch (strides 4, 8, 16 and 32), made from the
            blocks in ``out_indices`` by layers of their own. Defaults to
            ``'featmap'``.
        out_indices (int | Sequence[int]): Blocks to put out; negative ones count from
            the end. Blocks may repeat. Defaults to -1, the last one.
        final_norm (bool): Whether to normalise what the last block puts out; for
            ``'avg_featmap'``, the mean. Defaults to True.
        with_cp (bool): Compute the blocks a second time in the backward pass instead of
            keeping what is inside them. Defaults to False.
        init_cfg (dict | list[dict], optional): Defaults to None: the initial weights
            that the constructor gives.

    Raises:
        ValueError: If an option is unknown or out of range.
    """

    #: Whether blocks have ViTAE's convolution branch, and the attention ViTAE's biases.
    convolution_branch = False

    def __init__(
        self,
        img_size: Count | tuple[Count, Count] = 224,
        patch_size: Count = 16,
        in_channels: Count = 3,
        embed_dims: Count = 768,
        depth: Count = 12,
        num_heads: Count = 12,
        mlp_ratio: Count = 4,
        window_size: Count = 7,
        interval: Count = 3,
        drop_path_rate: Share = 0.0,
        out_type: str = 'featmap',
        out_indices: int | Sequence[int] = -1,
        final_norm: bool = True,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if out_type not in ('featmap', 'avg_featmap', 'pyramid'):
            raise ValueError(
                "out_type must be 'featmap', 'avg_featmap' or 'pyramid', got "
                f'{out_type!r}'
            )
        if interval < 2:
            raise ValueError(f'interval must be at least 2, got {interval}')
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        if not all(-depth <= index < depth for index in indices):
            raise ValueError(
                f'out_indices must be in -{depth} to {depth - 1}, got {out_indices}'
            )
        if out_type == 'pyramid' and len(indices) != 4:
            raise ValueError(
                "out_type='pyramid' needs four out_indices, such as (3, 5, 7, 11) of "
                f'12 blocks, got {out_indices}'
            )
        self.out_type = out_type
        self.out_indices = [index % depth for index in indices]
        self.with_cp = with_cp
        height, width = to_2tuple(img_size)
        #: Positions that the tables are made for.
        self.grid_size = -(-height // patch_size), -(-width // patch_size)

        self.patch_embed = PatchEmbed(in_channels, embed_dims, patch_size)
        positions = self.grid_size[0] * self.grid_size[1]
        # The first place is a class token's, which is not in use.
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + positions, embed_dims))
        blocks = []
        for index in range(depth):
            is_global = (index + 1) % interval == 0
            attention = (
                MapAttention(
                    embed_dims, num_heads, self.grid_size, self.convolution_branch
                )
                if is_global
                else RotatedWindowAttention(
                    embed_dims, num_heads, window_size, self.convolution_branch
                )
            )
            blocks.append(
                RVSABlock(
                    attention,
                    embed_dims,
                    mlp_ratio,
                    drop_path_rate * index / max(depth - 1, 1),
                    self.convolution_branch,
                )
            )
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6) if final_norm else None
        if out_type == 'pyramid':
            self.fpn1 = nn.Sequential(
                nn.ConvTranspose2d(embed_dims, embed_dims, 2, 2),
                ChannelNorm(embed_dims),
                nn.GELU(),
                nn.ConvTranspose2d(embed_dims, embed_dims, 2, 2),
            )
            self.fpn2 = nn.Sequential(nn.ConvTranspose2d(embed_dims, embed_dims, 2, 2))
            self.fpn3 = nn.Identity()
            self.fpn4 = nn.MaxPool2d(2, ceil_mode=True)
        self._draw_weights()

    def _draw_weights(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            images (Tensor): (B, bands, H, W).

        Returns:
            tuple[Tensor, ...]: One output for each of ``out_indices``, see
            ``out_type``. A map with stride s has ``ceil(H / s)`` rows.
        """
        x = self.patch_embed(images).permute(0, 2, 3, 1)  # B h w C
        x = x + self._position_embedding(*x.shape[1:3])
        outputs: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks):
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if index in self.out_indices:
                outputs[index] = x
        for index, features in outputs.items():
            if self.out_type == 'avg_featmap':
                features = features.mean((1, 2))
            if self.norm is not None and index == len(self.blocks) - 1:
                features = self.norm(features)
            if self.out_type != 'avg_featmap':
                features = features.permute(0, 3, 1, 2)
            outputs[index] = features
        maps = tuple(outputs[index] for index in self.out_indices)
        return self._pyramid(maps, images) if self.out_type == 'pyramid' else maps

    def _position_embedding(self, height: int, width: int) -> Tensor:
        """The embedding of a map's positions, (1, height, width, C)."""
        embedding = resize_pos_embed(self.pos_embed, self.grid_size, (height, width))
        return embedding[:, 1:].unflatten(1, (height, width))

    def _pyramid(self, maps: Sequence[Tensor], images: Tensor) -> tuple[Tensor, ...]:
        layers = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        patch = self.patch_embed.patch_size
        height, width = images.shape[-2:]
        return tuple(
            # Without what comes of the padding to whole patches.
            layer(features)[..., : -(-height // stride), : -(-width // stride)]
            for layer, features, stride in zip(
                layers, maps, (patch // 4, patch // 2, patch, 2 * patch), strict=True
            )
        )

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for learning rates that fall with it.

        Args:
            param_name (str): Name of the parameter.
            prefix (str): What stands before the backbone's names. Defaults to ''.

        Returns:
            tuple[int, int]: The depth, 0 for the patch embedding, and the number of
            depths; the last one is that of all that follows the blocks.
        """
        depths = len(self.blocks) + 2
        part, _, rest = param_name.removeprefix(prefix).partition('.')
        if not param_name.startswith(prefix):
            return depths - 1, depths
        if part in ('pos_embed', 'patch_embed'):
            return 0, depths
        if part == 'blocks':
            return int(rest.partition('.')[0]) + 1, depths
        return depths - 1, depths


@MODELS.register_module()
class RVSAViTAE(RVSAViT):
    """:class:`RVSAViT` with a convolution branch in each block.

    Beside the attention, two 3 x 3 convolutions in groups of four channels, with a
    BatchNorm and a SiLU between them, see the block's input; queries and values have
    biases of their own and keys none. With one image per device, set
    ``sync_bn='torch'`` in the config. With ``with_cp=True`` the BatchNorms count each
    batch twice.
    """

    convolution_branch = True
