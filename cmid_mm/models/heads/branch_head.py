# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the heads of all branches share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...ranges import Index, NonNegative

Pair = Sequence[Tensor]

#: Student's view and teacher's view, by number, of each comparison of the two.
BOTH_WAYS = ((0, 1), (1, 0))


@dataclass(frozen=True)
class PairedViews:
    """All that is known of a batch's two views, ``org`` and ``view``, in this order.

    Attributes:
        images (Sequence[Tensor]): Normalised unmasked views, (B, C, S, S).
        masks (Sequence[Tensor]): Boolean cells, True where masked, (B, h, w).
        boxes (Sequence[Tensor]): Top, left, height, width in pixels of the
            image both views were cropped from, and the orientation, (B, 5), as
            :class:`ViewPair` gives them.
        student (Sequence[Tensor]): The student's feature maps of the masked
            views, (B, D, N, N), from the stage that the head reads.
        teacher (Sequence[Tensor] | None): The teacher's of the full views, of ``org``
            alone if no direction asks for the other; None if no head asks for them.
        epoch (int): Finished epochs of the run.
        crops: The student's feature maps of small crops, (B, D, n, n) each; empty if
            the pipeline makes none.
        directions: Student's view and teacher's view, by number, of each comparison of
            the two.
    """

    images: Pair
    masks: Pair
    boxes: Pair
    student: Pair
    teacher: Pair | None
    epoch: int = 0
    crops: Sequence[Tensor] = ()
    directions: Sequence[tuple[int, int]] = BOTH_WAYS


class BranchHead(BaseModule):
    """Base of a branch's head: its projections, their teacher copies, its losses.

    A head is added to the model by a config line and gives its losses in
    :meth:`loss`. Entries whose names contain ``loss`` are summed up and trained;
    the others are logged. Where an earlier head of the model gives the same names, they
    begin with that of the head: ``coarse_loss_spread``.

    Args:
        start_epoch: Epochs of the run before the head starts.
        stage: Which of the backbone's outputs the head reads, as an index:
            ``-1`` the last, ``-2`` the one before, which the backbone must give too
            (``out_indices``).
        loss_weight: Factor of the head's losses.
    """

    #: Whether the head reads the teacher's features.
    uses_teacher = True

    #: Arguments that the model fills in where the config leaves them out:
    #: ``'in_channels'`` and ``'stride'`` of the feature map that the head reads,
    #: ``'num_bands'`` of the images, ``'mean'`` and ``'std'`` of their bands, config of
    #: the student's ``'backbone'``.
    measured: tuple[str, ...] = ()

    def __init__(
        self,
        start_epoch: Index = 0,
        stage: int = -1,
        loss_weight: NonNegative = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.start_epoch = start_epoch
        self.stage = stage
        self.loss_weight = loss_weight

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Pairs of a student module and the teacher module that follows it."""
        return iter(())

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Compute the branch's losses and statistics of a batch.

        Args:
            pair (PairedViews): The two views.

        Returns:
            dict[str, Tensor]: Scalars by name.
        """
        raise NotImplementedError(f'{type(self).__name__} must define loss()')

    def weighted_loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """What :meth:`loss` gives, its losses times ``loss_weight``."""
        return {
            name: value * self.loss_weight if 'loss' in name else value
            for name, value in self.loss(pair).items()
        }
