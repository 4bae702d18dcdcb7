# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Local branch without prototypes: which cells are alike."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import Count, Positive
from .assignment_head import location_grid, match_cells, select
from .branch_head import BranchHead, PairedViews
from .contrastive_head import cosines, two_layers, unit


@MODELS.register_module()
class PatchSimilarityHead(BranchHead):
    """Cells are as alike to the student as their matches are to the teacher.

    Cells of the two views that show the same ground are matched as in
    :class:`AssignmentHead`. For student ``org`` and teacher ``view``, then exchanged:
    each student cell's similarities to the other matched cells of the batch, as a
    softmax, must agree with those of the teacher's matches (cross-entropy). The
    relations of instances (Zheng et al., "ReSSL", NeurIPS 2021), here of cells.

    Args:
        in_channels: Width D of the feature map.
        hidden_channels: Width of the projector.
        out_channels: Size of the projection.
        num_matches: Matched cells per image and direction.
        batch_norm: BatchNorm in the projector: True for convolutional networks, False
            for transformers.
        student_temperature: Divides the student's cosines.
        teacher_temperature: Divides the teacher's; lower, so that its relations are
            sharper.
        **kwargs: Arguments of :class:`BranchHead`.
    """

    measured = ('in_channels',)

    def __init__(
        self,
        in_channels: Count,
        hidden_channels: Count = 512,
        out_channels: Count = 128,
        num_matches: Count = 20,
        batch_norm: bool = True,
        student_temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_matches = num_matches
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.student_projector = two_layers(
            in_channels, hidden_channels, out_channels, batch_norm, False
        )
        self.teacher_projector = copy.deepcopy(self.student_projector)

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The projector and its teacher."""
        yield self.student_projector, self.teacher_projector

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Cross-entropy of all directions, averaged."""
        assert pair.teacher is not None
        rows, columns = pair.student[0].shape[-2:]
        places = [location_grid(boxes, (rows, columns)) for boxes in pair.boxes]
        student, teacher = (
            [features.flatten(2).transpose(1, 2) for features in maps]
            for maps in (pair.student, pair.teacher)
        )  # B L D
        losses = []
        for query, key in pair.directions:
            cells, matches = match_cells(places[query], places[key], self.num_matches)
            own = select(student[query], cells).flatten(0, 1)
            relations = similarities(unit(self.student_projector(own)))
            with torch.no_grad():
                other = select(teacher[key], matches).flatten(0, 1)
                target = similarities(unit(self.teacher_projector(other)))
                target = (target / self.teacher_temperature).softmax(1)
            log_prob = (relations / self.student_temperature).log_softmax(1)
            losses.append(-(target * log_prob).sum(1).mean())
        return {'loss_similarity': torch.stack(losses).mean()}


def similarities(vectors: Tensor) -> Tensor:
    """Cosines of each unit vector, (M, D), and all others, (M, M - 1)."""
    count = len(vectors)
    others = ~torch.eye(count, dtype=torch.bool, device=vectors.device)
    return cosines(vectors, vectors)[others].view(count, count - 1)
