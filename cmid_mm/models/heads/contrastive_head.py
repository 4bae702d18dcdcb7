# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Global branch: global semantic separability (docs/method.md, branch 2)."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ranks import gather_keys
from .branch_head import BranchHead, PairedViews


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Contrast each query with its key against a queue of negatives.

    Equation: van den Oord et al. 2018, in the form of MoCo (He et al. 2020).

    Args:
        query (Tensor): Unit vectors, (B, D).
        key (Tensor): Unit vectors of the positives, (B, D).
        queue (Tensor): Unit vectors of the negatives, (D, K).
        temperature (float): Divides the cosine similarities, > 0.

    Returns:
        Tensor: Scalar, the mean over the batch.
    """
    positive = (query * key).sum(1, keepdim=True)  # B 1
    negative = query @ queue.to(query.dtype)  # B K
    logits = torch.cat((positive, negative), 1).float() / temperature
    # The positive is entry 0: -log softmax(logits)[0]
    return (logits.logsumexp(1) - logits[:, 0]).mean()


def unit_projection(projector: nn.Module, features: Tensor) -> Tensor:
    """Pool, project and normalise feature maps, (B, D, N, N), to unit vectors."""
    return F.normalize(projector(features.mean((2, 3))).float(), dim=1)


@torch.no_grad()
def replace_oldest(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    """Replace the oldest columns of a ring buffer; waits for no device.

    Args:
        queue (Tensor): Changed in place, (D, K).
        pointer (Tensor): Where the oldest column is, int64, (1,); moved on.
        keys (Tensor): The new columns, (B, D).
    """
    count, size = keys.shape[0], queue.shape[1]
    positions = torch.arange(count, device=keys.device)[-size:]
    positions = (pointer + positions) % size
    queue.index_copy_(1, positions, keys[-size:].t().to(queue.dtype))
    pointer.add_(count).remainder_(size)


@MODELS.register_module()
class MoCoHead(BranchHead):
    """MoCo-style instance contrast, symmetrised over the two views.

    Student query of masked ``org`` against teacher key of full ``view``, and
    exchanged, both against the queue as it was before the step. The teacher keys
    of ``view``, then of ``org``, then enter the queue, of all processes, each once.

    Args:
        in_channels (int): Width D of the feature map.
        hidden_channels (int): Width of the projector. Defaults to 2048.
        out_channels (int): Size of the projection. Defaults to 256.
        queue_size (int): Number of negatives; needs no relation to the batch.
            Defaults to 65536.
        temperature (float): Defaults to 0.2.
    """

    measured = ('in_channels',)
    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 2048,
        out_channels: int = 256,
        queue_size: int = 65536,
        temperature: float = 0.2,
        start_epoch: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        if queue_size < 1:
            raise ValueError(f'queue_size={queue_size}: expected at least 1')
        super().__init__(start_epoch, init_cfg)
        self.temperature = temperature
        self.student_projector = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.ReLU(),
            nn.Linear(hidden_channels, out_channels),
        )
        self.teacher_projector = copy.deepcopy(self.student_projector)
        queue = F.normalize(torch.randn(out_channels, queue_size), dim=0)
        self.register_buffer('queue', queue)
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The projector and its teacher."""
        yield self.student_projector, self.teacher_projector

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """InfoNCE of both directions, averaged."""
        assert pair.teacher is not None
        query_org, query_view = (
            unit_projection(self.student_projector, features)
            for features in pair.student
        )
        with torch.no_grad():
            key_org, key_view = (
                unit_projection(self.teacher_projector, features)
                for features in pair.teacher
            )
        # Both directions in one product read the large queue once. The copy stays
        # as it is for the backward pass while new keys enter the queue.
        loss = info_nce(
            torch.cat((query_org, query_view)),
            torch.cat((key_view, key_org)),
            self.queue.clone(),
            self.temperature,
        )
        self.enqueue(key_view)
        self.enqueue(key_org)
        return {'loss_contrastive': loss}

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys of the queue.

        Args:
            keys (Tensor): Unit vectors of this process, (B, D).
        """
        replace_oldest(self.queue, self.queue_ptr, gather_keys(keys))


@MODELS.register_module()
class BYOLHead(BranchHead):
    """BYOL-style global branch, the method's second variant: no negatives.

    A predictor on the student's projection of one view regresses the teacher's
    projection of the other: ``2 - 2 cos`` (Grill et al. 2020), averaged over both
    directions. Each view is its own batch for the BatchNorm layers.

    Args:
        in_channels (int): Width D of the feature map.
        hidden_channels (int): Width of projector and predictor. Defaults to 2048.
        out_channels (int): Size of the projection. Defaults to 256.
    """

    measured = ('in_channels',)

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 2048,
        out_channels: int = 256,
        start_epoch: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(start_epoch, init_cfg)

        def mlp(width: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(width, hidden_channels),
                nn.BatchNorm1d(hidden_channels),
                nn.ReLU(),
                nn.Linear(hidden_channels, out_channels),
            )

        self.student_projector = mlp(in_channels)
        self.teacher_projector = copy.deepcopy(self.student_projector)
        self.predictor = mlp(out_channels)

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The projector and its teacher."""
        yield self.student_projector, self.teacher_projector

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Regression loss of both directions, averaged."""
        assert pair.teacher is not None
        student = nn.Sequential(self.student_projector, self.predictor)
        pred_org, pred_view = (
            unit_projection(student, features) for features in pair.student
        )
        with torch.no_grad():
            key_org, key_view = (
                unit_projection(self.teacher_projector, features)
                for features in pair.teacher
            )
        cosine = (pred_org * key_view).sum(1) + (pred_view * key_org).sum(1)
        return {'loss_contrastive': 2 - cosine.mean()}
