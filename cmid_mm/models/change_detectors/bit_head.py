# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The head of the bitemporal image transformer."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model.weight_init import trunc_normal_
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from ...ranges import Count, Index


class Attention(nn.Module):
    """Multi-head attention with a scale that does not depend on the heads' width.

    Args:
        channels (int): Width of queries, memory and result.
        num_heads (int): Number of heads.
        head_channels (int): Width of one head; the heads together may be wider
            than ``channels``.
    """

    def __init__(self, channels: int, num_heads: int, head_channels: int) -> None:
        super().__init__()
        inner = num_heads * head_channels
        self.num_heads = num_heads
        self.scale = channels**-0.5
        self.query = nn.Linear(channels, inner, bias=False)
        self.key = nn.Linear(channels, inner, bias=False)
        self.value = nn.Linear(channels, inner, bias=False)
        self.output = nn.Linear(inner, channels)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Attend from queries (B, N, C) to memory (B, M, C); returns (B, N, C)."""
        query, key, value = (
            project(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project, tokens in (
                (self.query, queries),
                (self.key, memory),
                (self.value, memory),
            )
        )  # (B, heads, N or M, head channels)
        weights = (query @ key.transpose(-2, -1) * self.scale).softmax(-1)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection.

    Queries and memory share one norm. With the queries as their own memory this is an
    ordinary encoder block.

    Args:
        channels (int): Width.
        num_heads (int): Number of heads.
        head_channels (int): Width of one head.
        feedforward_channels (int): Hidden width of the feed-forward part.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_channels: int,
        feedforward_channels: int,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, num_heads, head_channels)
        self.feedforward_norm = nn.LayerNorm(channels)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, feedforward_channels),
            nn.GELU(),
            nn.Linear(feedforward_channels, channels),
        )

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Update queries (B, N, C) from memory (B, M, C)."""
        queries = queries + self.attention(
            self.attention_norm(queries), self.attention_norm(memory)
        )
        return queries + self.feedforward(self.feedforward_norm(queries))


@MODELS.register_module()
class BITHead(BaseDecodeHead):
    """Bitemporal image transformer (its README in configs).

    Each date's stride-16 map is enlarged twice and reduced to ``channels``. A few
    semantic tokens summarise each date; an encoder lets the tokens of both dates
    exchange what they know; a decoder writes them back into each date's map. The
    absolute difference of the maps is classified at full resolution.

    The head is not symmetric in the dates, as the position embedding tells them apart;
    swapping the dates and both halves of that embedding leaves the result as it is.

    Names of the parameters, which stay as they are::

        reduce.{weight,bias}          3x3, in_channels -> channels
        tokenizer.weight              1x1, channels -> num_tokens
        position_embedding            (1, 2 * num_tokens, channels), first date first
        encoder.0.* and decoder.I.*, block I:
            attention_norm.{weight,bias}          one for queries and memory
            attention.{query,key,value}.weight    channels -> heads * head_channels
            attention.output.{weight,bias}        heads * head_channels -> channels
            feedforward_norm.{weight,bias}
            feedforward.{0,2}.{weight,bias}       in, out; between them GELU
        refine.{conv.weight,bn.*}     3x3 without bias, BatchNorm; then ReLU
        conv_seg.{weight,bias}        3x3, channels -> num_classes

    Args:
        in_channels (int): Channels of the stride-16 map.
        channels (int): Width of the head. Defaults to 32.
        num_classes (int): Classes. Defaults to 2, unchanged and changed.
        num_tokens (int): Semantic tokens of a date. Defaults to 4.
        decoder_depth (int): Blocks of the decoder. Defaults to 8.
        num_heads (int): Attention heads. Defaults to 8.
        head_channels (int): Width of one head. Defaults to 64.
        feedforward_channels (int): Hidden width of the feed-forward parts. Defaults
            to 64.
        norm_cfg (dict): Norm before the last convolution. Defaults to BatchNorm.
        in_index (int): Which of the backbone's maps to take. Defaults to -1.
        **kwargs: As for mmseg's ``BaseDecodeHead``: losses, ``ignore_index``, ...
    """

    def __init__(
        self,
        in_channels: Count,
        channels: Count = 32,
        *,
        num_classes: Count = 2,
        num_tokens: Count = 4,
        decoder_depth: Index = 8,
        num_heads: Count = 8,
        head_channels: Count = 64,
        feedforward_channels: Count = 64,
        norm_cfg: dict[str, Any] | None = None,
        in_index: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0,
            norm_cfg=norm_cfg or dict(type='BN'),
            in_index=in_index,
            **kwargs,
        )
        self.reduce = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.tokenizer = nn.Conv2d(channels, num_tokens, 1, bias=False)
        self.position_embedding = nn.Parameter(torch.zeros(1, 2 * num_tokens, channels))

        def blocks(depth: int) -> nn.ModuleList:
            widths = (channels, num_heads, head_channels, feedforward_channels)
            return nn.ModuleList(TransformerBlock(*widths) for _ in range(depth))

        self.encoder = blocks(1)
        self.decoder = blocks(decoder_depth)
        self.refine = ConvModule(
            channels, channels, 3, padding=1, bias=False, norm_cfg=self.norm_cfg
        )
        self.conv_seg = nn.Conv2d(channels, num_classes, 3, padding=1)

    def init_weights(self) -> None:
        """Initialise; the transformer keeps PyTorch's own initial weights."""
        super().init_weights()
        trunc_normal_(self.position_embedding, std=0.02)

    def forward(self, inputs: Sequence[Sequence[Tensor]]) -> Tensor:
        """Classify the pixels of pairs.

        Args:
            inputs (Sequence): Feature maps of the first and of the second date; of
                each the one at ``in_index`` is used, (B, in_channels, H, W).

        Returns:
            Tensor: Logits, (B, num_classes, 16 H, 16 W).
        """
        maps = [self._enlarge(self._transform_inputs(date)) for date in inputs]
        maps = [self.reduce(features) for features in maps]  # (B, C, 2H, 2W)
        tokens = torch.cat([self._tokens(features) for features in maps], dim=1)
        tokens = tokens + self.position_embedding  # (B, 2 tokens, C)
        for block in self.encoder:
            tokens = block(tokens, tokens)
        before, after = (
            self._decode(features, own)
            for features, own in zip(maps, tokens.chunk(2, dim=1), strict=True)
        )
        difference = self._enlarge((before - after).abs())
        difference = F.interpolate(
            difference, scale_factor=4, mode='bilinear', align_corners=True
        )
        return self.cls_seg(self.refine(difference))

    @staticmethod
    def _enlarge(features: Tensor) -> Tensor:
        return F.interpolate(features, scale_factor=2, mode='nearest')

    def _tokens(self, features: Tensor) -> Tensor:
        """Summarise a map (B, C, H, W) by (B, num_tokens, C)."""
        weights = self.tokenizer(features).flatten(2).softmax(-1)
        return weights @ features.flatten(2).transpose(1, 2)

    def _decode(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Write the tokens of a date back into its map (B, C, H, W)."""
        pixels = features.flatten(2).transpose(1, 2)
        for block in self.decoder:
            pixels = block(pixels, tokens)
        return pixels.transpose(1, 2).unflatten(2, features.shape[2:])
