# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Global branch: global semantic separability (docs/method.md, branch 2)."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ranges import Count, Index, Positive
from ..ranks import gather_keys, gather_with_gradient
from .branch_head import BOTH_WAYS, BranchHead, PairedViews


def info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    in_batch: Tensor | None = None,
    decoupled: bool = False,
) -> Tensor:
    """Contrast each query with its key against negatives.

    Equation: van den Oord et al. 2018, in the form of MoCo (He et al. 2020); with
    ``in_batch`` that of SimCLR (Chen et al. 2020), decoupled that of Yeh et al. 2022.

    Args:
        query: Unit vectors, (B, D).
        key: Unit vectors of the positives, (B, D).
        queue: Unit vectors of negatives that all queries share, (D, K); K may be 0.
        temperature: Divides the cosine similarities, > 0.
        in_batch: Cosine similarities of each query and further negatives, (B, M);
            ``-inf`` where one is none.
        decoupled: Leave the positive out of the sum over candidates.

    Returns:
        Scalar, the mean over the batch.
    """
    positive = (query * key).sum(1, keepdim=True)  # B 1
    negative = query @ queue.to(query.dtype)  # B K
    candidates = [positive, negative]
    if in_batch is not None:
        candidates.append(in_batch)
    logits = torch.cat(candidates, 1).float() / temperature
    # The positive is entry 0: -log softmax(logits)[0]
    denominator = logits[:, 1:] if decoupled else logits
    return (denominator.logsumexp(1) - logits[:, 0]).mean()


def other_images(query: Tensor, key: Tensor, batch: int) -> Tensor:
    """Similarities of the queries of V views with the keys of other images.

    Args:
        query: Unit vectors of this process, view by view, (V B, D).
        key: Their keys, of the same images in the same order, (V B, D). Gradients flow
            to those of all processes.
        batch: Number B of images.

    Returns:
        Cosines with the keys of all processes, ``-inf`` where query and key show the
        same image, (V B, V B times processes).
    """
    keys = gather_with_gradient(key)
    similarity = query @ keys.t()
    own = torch.arange(len(key), device=key.device)
    views = torch.arange(0, len(key), batch, device=key.device)
    own_image = (own[:, None] + views) % len(key)  # each view
    own_image += dist.get_rank() * len(key)
    return similarity.scatter(1, own_image, -torch.inf)


def unit_projection(projector: nn.Module, features: Tensor) -> Tensor:
    """Pool, project and normalise feature maps, (B, D, N, N), to unit vectors."""
    return unit(projector(features.mean((2, 3))))


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
    """Instance contrast, symmetrised over the two views.

    Student query of masked ``org`` against the key of ``view``, and exchanged. As it
    is, the method's: keys of the teacher, of full views, against a queue of earlier
    ones, as it was before the step; the teacher keys of ``view``, then of ``org``, then
    enter the queue, of all processes, each once. The other options lead to SimCLR's
    contrast: keys of the student with gradient, negatives from the batch, BatchNorm.

    Args:
        in_channels: Width D of the feature map.
        hidden_channels: Width of the projector, and of the predictor.
        out_channels: Size of the projection.
        queue_size: Number of earlier keys that are negatives; needs no relation to the
            batch; 0 for none.
        temperature: Divides the cosines.
        projector_norm: BatchNorm behind both layers of the projector and the first of
            the predictor, over both views as one batch.
        predictor: A second such network behind the projector of the queries alone.
        teacher_keys_from: Finished epochs of the run from which on keys are the
            teacher's; before, they are the student's own projections of the masked
            views, and gradients flow through both sides. 0: always the teacher's;
            None: never, and the head needs no teacher.
        in_batch: Whether keys of the other images of the batch, of both views and all
            processes, are negatives.
        decoupled: Leave the positive out of the sum over candidates.
        **kwargs: Arguments of :class:`BranchHead`.

    Raises:
        ValueError: If there are no negatives, neither a queue nor the batch, or a
            queue without a teacher whose keys could fill it.
    """

    measured = ('in_channels',)
    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        in_channels: Count,
        hidden_channels: Count = 2048,
        out_channels: Count = 256,
        queue_size: Index = 65536,
        temperature: Positive = 0.2,
        projector_norm: bool = False,
        predictor: bool = False,
        teacher_keys_from: Index | None = 0,
        in_batch: bool = False,
        decoupled: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if queue_size < 0 or not (queue_size or in_batch):
            raise ValueError(
                f'queue_size={queue_size} and in_batch={in_batch} leave no '
                'negatives; set one of them, or take BYOLHead'
            )
        if queue_size and teacher_keys_from is None:
            raise ValueError(
                'teacher_keys_from=None leaves the queue of '
                f'queue_size={queue_size} without keys; set queue_size=0 and '
                'in_batch=True'
            )
        self.temperature = temperature
        self.teacher_keys_from = teacher_keys_from
        self.uses_teacher = teacher_keys_from is not None
        self.in_batch = in_batch
        self.decoupled = decoupled
        self.projector_norm = projector_norm
        self.student_projector = two_layers(
            in_channels, hidden_channels, out_channels, projector_norm, projector_norm
        )
        if self.uses_teacher:
            self.teacher_projector = copy.deepcopy(self.student_projector)
        self.predictor: nn.Module = nn.Identity()
        if predictor:
            self.predictor = two_layers(
                out_channels, hidden_channels, out_channels, projector_norm, False
            )
        queue = F.normalize(torch.randn(out_channels, queue_size), dim=0)
        self.register_buffer('queue', queue)
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The projector and its teacher."""
        if self.uses_teacher:
            yield self.student_projector, self.teacher_projector

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """InfoNCE of all directions, averaged."""
        projected = self.project(self.student_projector, pair.student)
        keys = projected
        directions: Sequence[tuple[int, int]] = BOTH_WAYS
        start = self.teacher_keys_from
        if start is not None and pair.epoch >= start:
            assert pair.teacher is not None
            directions = pair.directions
            with torch.no_grad():
                keys = self.project(self.teacher_projector, pair.teacher)
        batch = len(pair.student[0])
        query_of = unit(self.predictor(projected)).split(batch)
        key_of = unit(keys).split(batch)
        query = torch.cat([query_of[of] for of, _ in directions])
        key = torch.cat([key_of[of] for _, of in directions])
        # All directions in one product read the large queue once. The copy stays
        # as it is for the backward pass while new keys enter the queue.
        loss = info_nce(
            query,
            key,
            self.queue.clone(),
            self.temperature,
            other_images(query, key, batch) if self.in_batch else None,
            self.decoupled,
        )
        losses = {'loss_contrastive': loss}
        if pair.crops:
            losses['loss_crops'] = self.crop_loss(pair.crops, torch.cat(key_of))
        if self.queue.shape[1]:
            for _, of in directions:
                self.enqueue(key_of[of])
        return losses

    def crop_loss(self, crops: Sequence[Tensor], key: Tensor) -> Tensor:
        """InfoNCE of small crops and the keys of their images, averaged.

        The crops follow the views, not the other way: no gradient reaches the keys.

        Args:
            crops: Feature maps of K crops, (B, D, n, n) each.
            key: Unit vectors of V views, one after the other, (V B, D).
        """
        key = key.detach()
        queue = self.queue.clone()  # as it is for the backward pass
        projected = self.project(self.student_projector, crops)
        batch = len(crops[0])
        losses = []
        for query in unit(self.predictor(projected)).split(batch):
            query = query.repeat(len(key) // batch, 1)
            negatives = other_images(query, key, batch) if self.in_batch else None
            losses.append(
                info_nce(
                    query,
                    key,
                    queue,
                    self.temperature,
                    negatives,
                    self.decoupled,
                )
            )
        return torch.stack(losses).mean()

    def project(self, projector: nn.Module, maps: Sequence[Tensor]) -> Tensor:
        """Projections of the pooled maps of V views, one after the other, (V B, D).

        Args:
            projector: The student's or the teacher's.
            maps: Feature maps of each view, (B, D, N, N).
        """
        pooled = [features.mean((2, 3)) for features in maps]
        if self.projector_norm:
            pooled = [torch.cat(pooled)]
        return torch.cat([projector(features) for features in pooled])

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys of the queue.

        Args:
            keys (Tensor): Unit vectors of this process, (B, D).
        """
        replace_oldest(self.queue, self.queue_ptr, gather_keys(keys))


def unit(vectors: Tensor) -> Tensor:
    """Vectors, (B, D), scaled to unit length, float32."""
    return F.normalize(vectors.float(), dim=1)


def cosines(vectors: Tensor, others: Tensor) -> Tensor:
    """Products of unit vectors, (M, D) and (N, D), float32 under any autocast, (M, N).

    Those of near neighbours differ in digits that half precision does not have.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        return vectors.float() @ others.float().t()


def two_layers(
    width: int, hidden: int, out: int, norm: bool, norm_output: bool
) -> nn.Sequential:
    """A projector: two linear layers, (B, width) to (B, out).

    Args:
        width: Size of the input.
        hidden: Size between the layers.
        out: Size of the output.
        norm: BatchNorm behind the first layer.
        norm_output: BatchNorm behind the second.
    """
    layers: list[nn.Module] = [nn.Linear(width, hidden)]
    if norm:
        layers.append(nn.BatchNorm1d(hidden))
    layers += [nn.ReLU(), nn.Linear(hidden, out)]
    if norm_output:
        layers.append(nn.BatchNorm1d(out))
    return nn.Sequential(*layers)


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
        **kwargs: Arguments of :class:`BranchHead`.
    """

    measured = ('in_channels',)

    def __init__(
        self,
        in_channels: Count,
        hidden_channels: Count = 2048,
        out_channels: Count = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        layers = hidden_channels, out_channels, True, False
        self.student_projector = two_layers(in_channels, *layers)
        self.teacher_projector = copy.deepcopy(self.student_projector)
        self.predictor = two_layers(out_channels, *layers)

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """The projector and its teacher."""
        yield self.student_projector, self.teacher_projector

    def loss(self, pair: PairedViews) -> dict[str, Tensor]:
        """Regression loss of all directions, averaged."""
        assert pair.teacher is not None
        student = nn.Sequential(self.student_projector, self.predictor)
        pred = [unit_projection(student, features) for features in pair.student]
        with torch.no_grad():
            key = [
                unit_projection(self.teacher_projector, features)
                for features in pair.teacher
            ]
        cosine = [(pred[query] * key[of]).sum(1) for query, of in pair.directions]
        mean = torch.stack(cosine).sum(0).mean() / len(cosine)
        return {'loss_contrastive': 2 - 2 * mean}
