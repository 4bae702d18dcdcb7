# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Local branch: semantic completeness (docs/method.md, branch 3).

Cells of the two views that show the same ground are matched by their locations,
and the student's assignment of a cell to prototypes must agree with the
teacher's assignment of its match.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ...ranges import Count, Index, Positive, Several, Share
from .branch_head import BranchHead, PairedViews


def location_grid(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Centres of a crop's cells, in pixels of the image it was cropped from.

    Cell (r, c) of a crop lies at ``(top + (r + 0.5) h / N, left + (c + 0.5) w / N)``;
    a horizontal flip reverses the columns, and a quarter turn counter-clockwise then
    makes the last column the first row.

    Args:
        boxes (Tensor): Top, left, height, width in pixels, and the orientation: 1 if
            flipped, plus twice the number of quarter turns, (B, 5).
        grid (tuple[int, int]): Rows and columns of cells.

    Returns:
        Tensor: Centres (y, x), row by row, (B, rows * columns, 2).
    """
    top, left, height, width, orientation = boxes[:, :, None, None].unbind(1)  # B 1 1
    down = (torch.arange(grid[0], device=boxes.device) + 0.5) / grid[0]
    across = (torch.arange(grid[1], device=boxes.device) + 0.5) / grid[1]
    down, across = torch.meshgrid(down, across, indexing='ij')  # N N
    turns = (orientation / 2).floor()
    # Each cell's place in the crop before the turns, and before the flip.
    aligned = turns % 2 == 0
    row = torch.where(aligned, down, across)
    column = torch.where(aligned, across, down)
    row = torch.where(turns >= 2, 1 - row, row)
    column = torch.where((turns == 1) | (turns == 2), 1 - column, column)
    flipped = orientation % 2 > 0.5
    column = torch.where(flipped, 1 - column, column)
    y, x = top + row * height, left + column * width
    return torch.stack((y, x), -1).flatten(1, 2)


def match_cells(query: Tensor, key: Tensor, num_matches: int) -> tuple[Tensor, Tensor]:
    """Match each query cell to the nearest key cell and keep the closest matches.

    Args:
        query (Tensor): Locations (y, x), (B, Q, 2).
        key (Tensor): Locations (y, x), (B, K, 2).
        num_matches (int): Matches kept per image; all Q if it exceeds Q.

    Returns:
        tuple[Tensor, Tensor]: Indices of the kept query cells in ascending order,
        and of their key cells, (B, num) each.
    """
    offsets = query[:, :, None] - key[:, None]  # B Q K 2
    distance, nearest = offsets.square().sum(-1).min(2)
    num_matches = min(num_matches, query.shape[1])
    kept = distance.topk(num_matches, largest=False).indices.sort().values
    return kept, nearest.gather(1, kept)


def on_same_ground(
    query_boxes: Tensor,
    key_boxes: Tensor,
    grid: tuple[int, int],
    query_index: Tensor,
    key_index: Tensor,
) -> Tensor:
    """Whether matched cells show the same ground within half a stride.

    A stride is what a cell covers on the ground: a row's share of the crop's height
    and a column's of its width, in pixels of the image that both were cropped from.
    Where the two crops differ in scale, the longer stride counts, in each direction.

    Args:
        query_boxes: Crops of the query cells, (B, 5), as for :func:`location_grid`.
        key_boxes: Crops of the key cells, (B, 5).
        grid: Rows and columns of cells.
        query_index: Matched query cells, (B, M).
        key_index: Their key cells, (B, M).

    Returns:
        Tensor: bool, (B, M).
    """
    offset = select(location_grid(query_boxes, grid), query_index) - select(
        location_grid(key_boxes, grid), key_index
    )
    down, across = offset.abs().unbind(-1)
    sides = torch.maximum(query_boxes, key_boxes)[:, 2:4, None]  # B 2 1
    return (down < sides[:, 0] / (2 * grid[0])) & (across < sides[:, 1] / (2 * grid[1]))


class PrototypeHead(nn.Module):
    """Score each position against prototypes.

    Three layers per position, unit length over channels, then a bias-free linear
    layer whose weight vectors have unit length (gain fixed to 1).

    Args:
        in_channels (int): Width of the features.
        hidden_channels (int): Width of the hidden layers. Defaults to 2048.
        bottleneck_channels (int): Width of the unit vectors. Defaults to 256.
        num_prototypes (int): Defaults to 2048.
        batch_norm (bool): BatchNorm behind the hidden layers: for convolutional
            networks, not for transformers. Defaults to True.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 2048,
        bottleneck_channels: int = 256,
        num_prototypes: int = 2048,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (in_channels, hidden_channels):
            layers.append(nn.Linear(width, hidden_channels))
            if batch_norm:
                layers.append(nn.BatchNorm1d(hidden_channels))
            layers.append(nn.GELU())
        layers.append(nn.Linear(hidden_channels, bottleneck_channels))
        self.mlp = nn.Sequential(*layers)
        self.prototypes = weight_norm(
            nn.Linear(bottleneck_channels, num_prototypes, bias=False)
        )
        gain = self.prototypes.parametrizations.weight.original0
        nn.init.ones_(gain).requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Score positions.

        Args:
            features (Tensor): (B, L, D).

        Returns:
            Tensor: Cosine of each position and prototype, (B, L, num_prototypes).
        """
        batch = features.shape[:2]
        # BatchNorm1d takes its statistics over all positions of all images.
        hidden = F.normalize(self.mlp(features.flatten(0, 1)), dim=-1)
        return self.prototypes(hidden).unflatten(0, batch)


@MODELS.register_module()
class AssignmentHead(BranchHead):
    """Position-matched consistency of prototype assignments.

    For student ``org`` and teacher ``view``, then exchanged: cross-entropy between
    the teacher's sharpened, centred assignment of a cell and the student's of its
    match, averaged over positions and images. The centre, a running mean of the
    teacher's scores, moves after each of the two terms.

    Args:
        in_channels (int): Width D of the feature map.
        hidden_channels (int): Defaults to 2048.
        bottleneck_channels (int): Defaults to 256.
        num_prototypes (int): Defaults to 2048.
        batch_norm (bool): BatchNorm in the projections: True for convolutional
            networks, False for transformers. Defaults to True.
        num_matches (int): Matched cells per image and direction. Defaults to 20.
        location (str): ``'pixel'``, or ``'legacy'``: crop offsets enter the
            locations as fractions of the image while cells stay in pixels, as when
            the published numbers were made; for comparison only. Defaults to
            ``'pixel'``.
        student_temperature (float): Defaults to 0.1.
        teacher_temperature (tuple[float, float]): First and last value of the
            teacher's temperature. Defaults to (0.04, 0.07).
        temperature_epochs (int): Epochs over which it rises linearly, constant
            within an epoch. Defaults to 50.
        center_momentum (float): Defaults to 0.9.
        **kwargs: Arguments of :class:`BranchHead`.
    """

    measured = ('in_channels',)
    center: Tensor

    def __init__(
        self,
        in_channels: Count,
        hidden_channels: Count = 2048,
        bottleneck_channels: Count = 256,
        num_prototypes: Several = 2048,
        batch_norm: bool = True,
        num_matches: Count = 20,
        location: str = 'pixel',
        student_temperature: Positive = 0.1,
        teacher_temperature: tuple[Positive, Positive] = (0.04, 0.07),
        temperature_epochs: Index = 50,
        center_momentum: Share = 0.9,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if location not in ('pixel', 'legacy'):
            raise ValueError(f"location must be 'pixel' or 'legacy', got {location!r}")
        self.num_matches = num_matches
        self.location = location
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.temperature_epochs = temperature_epochs
        self.center_momentum = center_momentum
        self.student_head = PrototypeHead(
            in_channels,
            hidden_channels,
            bottleneck_channels,
            num_prototypes,
            batch_norm,
        )
        self.teacher_head = copy.deepcopy(self.student_head)
        self.register_buffer('center', torch.zeros(num_prototypes))

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The prototype head and its teacher."""
        yield self.student_head, self.teacher_head

    def temperature_at(self, epoch: int) -> float:
        """Teacher temperature of an epoch, counted from 0."""
        first, last = self.teacher_temperature
        if epoch >= self.temperature_epochs - 1:
            return last
        return first + (last - first) * epoch / (self.temperature_epochs - 1)

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Assignment loss of all directions, averaged, and matching statistics."""
        assert pair.teacher is not None
        rows, columns = pair.student[0].shape[-2:]
        size = pair.images[0].shape[-2:]
        student, teacher = (
            [features.flatten(2).transpose(1, 2) for features in pair_features]
            for pair_features in (pair.student, pair.teacher)
        )  # B L D

        temperature = self.temperature_at(pair.epoch)
        losses, usage, used, near = [], [], [], []
        for query, key in pair.directions:
            query_index, key_index, same = self.match(
                pair.boxes[query], pair.boxes[key], (rows, columns), size
            )
            near.append(same.float().mean())
            scores = self.student_head(select(student[query], query_index))
            with torch.no_grad():
                target_scores = self.teacher_head(select(teacher[key], key_index))
                target = self.assign(target_scores, temperature)
                self.update_center(target_scores)
                usage.append(normalized_entropy(target.mean((0, 1))))
                used.append(share_used(target))
            losses.append(self.cross_entropy(scores, target))
        return {
            'loss_assignment': torch.stack(losses).mean(),
            'matched_within_half_stride': torch.stack(near).mean(),
            'prototype_entropy': torch.stack(usage).mean(),
            'prototypes_used': torch.stack(used).mean(),
        }

    def match(
        self,
        query_boxes: Tensor,
        key_boxes: Tensor,
        grid: tuple[int, int],
        size: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Match the cells of one view to those of the other.

        Args:
            query_boxes: Crops, (B, 5), as :func:`location_grid` takes them.
            key_boxes: Crops of the other views, (B, 5).
            grid: Rows and columns of cells.
            size: Height and width of the views in pixels.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Query cells, their key cells, and whether
            both show the same ground within half a stride, (B, num_matches) each.
        """
        query_index, key_index = match_cells(
            self.locate(query_boxes, grid, size),
            self.locate(key_boxes, grid, size),
            self.num_matches,
        )
        same = on_same_ground(query_boxes, key_boxes, grid, query_index, key_index)
        return query_index, key_index, same

    def locate(
        self, boxes: Tensor, grid: tuple[int, int], size: Sequence[int]
    ) -> Tensor:
        """Locations by which cells are matched.

        Args:
            boxes (Tensor): Crops, (B, 5), as :func:`location_grid` takes them.
            grid (tuple[int, int]): Rows and columns of cells.
            size (Sequence[int]): Height and width of the view in pixels.

        Returns:
            Tensor: (y, x) of each cell, (B, rows * columns, 2).
        """
        if self.location == 'legacy':
            boxes = boxes * boxes.new_tensor([1 / size[0], 1 / size[1], 1, 1, 1])
        return location_grid(boxes, grid)

    def assign(self, scores: Tensor, temperature: float) -> Tensor:
        """Teacher's soft assignment, ``softmax((scores - centre) / T)``, float32."""
        return ((scores.float() - self.center) / temperature).softmax(-1)

    def cross_entropy(self, scores: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the student's scores, (B, L, K), against assignments."""
        log_prob = (scores.float() / self.student_temperature).log_softmax(-1)
        return -(target * log_prob).sum(-1).mean()

    @torch.no_grad()
    def update_center(self, scores: Tensor) -> None:
        """Move the centre towards the mean score of all images and processes."""
        mean = scores.float().mean((0, 1))
        dist.all_reduce(mean, op='mean')
        self.center.lerp_(mean, 1 - self.center_momentum)


def select(values: Tensor, index: Tensor) -> Tensor:
    """Rows of each image: (B, L, D) at (B, M) gives (B, M, D)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def normalized_entropy(probability: Tensor) -> Tensor:
    """Entropy of a distribution over its last axis, as a share of the maximum."""
    entropy = torch.special.entr(probability).sum(-1)
    return entropy / math.log(probability.shape[-1])


def share_used(assignments: Tensor) -> Tensor:
    """Prototypes that are the first of some position, as a share of what is possible.

    Args:
        assignments: (B, L, K).

    Returns:
        Scalar; 1 if each position has a prototype of its own, or each prototype one.
    """
    positions, prototypes = assignments.flatten(0, 1).shape
    used = assignments.new_zeros(prototypes)
    used.index_fill_(0, assignments.argmax(-1).flatten(), 1)
    return used.sum() / min(positions, prototypes)
