# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Contrastive Mask Image Distillation (Muhtar et al., TGRS 2023)."""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel, ModuleDict
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ...ranges import PositiveShare
from ..clock import finished_epochs, in_a_run
from ..data_preprocessor import ViewPairPreprocessor
from ..heads.branch_head import BOTH_WAYS, BranchHead, PairedViews
from ..measuring import feature_map
from ..parts import build_part, part_class
from .masked_encoder import StudentEncoder


@MODELS.register_module()
class CMID(BaseModel):
    """Contrastive Mask Image Distillation.

    The student sees two masked views of an image, the teacher the same views
    unmasked; each head compares what they make of them. The teacher has the
    student's shapes, receives no gradient and follows the student's parameters as
    a moving average: :class:`TeacherUpdateHook` calls :meth:`update_teacher` after
    each optimiser step. Both run in training mode; BatchNorm takes the statistics
    of each view by itself.

    Args:
        encoder (dict): Config of the student's encoder, a :class:`MaskedEncoder` unless
            ``type`` says :class:`VisibleEncoder`.
        heads (dict[str, dict | None]): Configs of the branches' heads by name. A
            head left out, or None, costs nothing. What a head takes of the backbone
            and the images (``measured``) need not be given.
        data_preprocessor (dict): Config of a :class:`ViewPairPreprocessor`. The
            length of its ``mean`` sets the input bands of stem and decoder.
        momentum: First value of the teacher's momentum, which rises to 1 by a cosine
            over the run. Defaults to None, 0.996 unless ``momentum_half_life`` is set.
        channels_last (bool): Lay images and kernels out channels last, which is
            faster for convolutional networks. Changes no value. Defaults to False.
        joint_views: Encode both views as one batch: faster, and BatchNorm takes its
            statistics over both.
        momentum_half_life: Share of the run after which half of what the teacher was
            is forgotten. Sets the first value of the momentum in place of
            ``momentum``, so that it fits runs of any length.
        weak_teacher: The teacher sees ``org`` alone, whose colours are undisturbed, and
            the student's ``view`` is compared with it; not the other way round too.

    Raises:
        ValueError: If both are set, ``weak_teacher`` where no head has a teacher, or
            what replaces masked pixels of which the encoder reads none.
    """

    data_preprocessor: ViewPairPreprocessor

    def __init__(
        self,
        encoder: dict,
        heads: dict[str, dict | None],
        data_preprocessor: dict,
        momentum: float | None = None,
        channels_last: bool = False,
        joint_views: bool = False,
        momentum_half_life: PositiveShare | None = None,
        weak_teacher: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        if momentum is not None and momentum_half_life is not None:
            raise ValueError(
                f'momentum={momentum} and momentum_half_life={momentum_half_life} both '
                "set the teacher's first momentum; set one of them to None"
            )
        momentum = 0.996 if momentum is None else momentum
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum={momentum}: expected a number in 0-1')
        data_preprocessor = {
            'type': 'ViewPairPreprocessor',
            'channels_last': channels_last,
            **data_preprocessor,
        }
        super().__init__(build_part(data_preprocessor), init_cfg)
        bands = self.data_preprocessor.num_bands
        encoder = {'type': 'MaskedEncoder', **encoder}
        if bands != 3 and 'backbone' in encoder:
            encoder['backbone'] = {**encoder['backbone'], 'in_channels': bands}
        self.student: StudentEncoder = build_part(encoder)
        if 'mask_fill' in data_preprocessor and not self.student.reads_masked_pixels:
            raise ValueError(
                f'data_preprocessor.mask_fill={data_preprocessor["mask_fill"]!r} has '
                f'no effect: {type(self.student).__name__} reads no masked pixel; '
                'leave it out'
            )
        # That of mmengine, which asks them to initialise their weights.
        self.heads = ModuleDict()
        for name, head in heads.items():
            if head is not None:
                self.heads[name] = build_part({**head, **self._measured(head, encoder)})
        #: Widths of feature maps that the config gives, by the name of the head.
        self._given_widths = {
            name: head['in_channels']
            for name, head in heads.items()
            if head is not None and head.get('in_channels') is not None
        }
        uses_teacher = any(head.uses_teacher for head in self._branches())
        if weak_teacher and not uses_teacher:
            raise ValueError(
                'weak_teacher=True has no effect: no head has a teacher; leave it out'
            )
        self.teacher = self.student.copy_backbone() if uses_teacher else None
        #: Student's view and teacher's view of each comparison of the two.
        self.directions = ((1, 0),) if weak_teacher else BOTH_WAYS
        self.momentum = momentum
        self.momentum_half_life = momentum_half_life
        self.joint_views = joint_views
        #: Whether something calls update_teacher; said by TeacherUpdateHook.
        self.teacher_is_updated = False
        self.follow_student()
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(
        self,
        images: Any,
        masked_images: Sequence[Tensor] = (),
        masks: Sequence[Tensor] = (),
        boxes: Sequence[Tensor] = (),
        crops: Sequence[Tensor] = (),
        mode: str = 'tensor',
    ) -> Any:
        """Losses of view pairs, or features of plain images.

        Args:
            images (Sequence[Tensor] | Tensor): Normalised full views, two tensors
                (B, C, S, S); in mode ``'tensor'`` one tensor (B, C, H, W).
            masked_images (Sequence[Tensor]): The student's input.
            masks (Sequence[Tensor]): Boolean cells, (B, h, w) each.
            boxes (Sequence[Tensor]): Crops of the views, (B, 5) each.
            crops: Normalised small crops for the student alone, (B, C, s, s) each.
            mode (str): ``'loss'`` or ``'tensor'``. Defaults to ``'tensor'``.

        Returns:
            dict[str, Tensor] | Tensor: Named losses and statistics, or the
            student's last feature map.
        """
        if mode == 'tensor':
            return self.student(images)
        if mode != 'loss':
            raise ValueError(f"mode must be 'loss' or 'tensor', got {mode!r}")
        self._check_teacher_is_updated()
        epoch = finished_epochs()
        teacher = None
        if self.teacher is not None:
            # Before the student, whose graph would keep memory that this pass can use.
            with torch.no_grad():
                last = max(key for _, key in self.directions)
                teacher = self._encode(self.teacher, images[: last + 1])
        student = self._encode(self.student.stages, masked_images, masks)
        small = self._encode_together(self.student.stages, crops) if crops else None
        losses = {'feature_std': feature_std(student(-1))}
        for name, head in zip(self.heads, self._branches(), strict=True):
            if epoch >= head.start_epoch:
                maps = student(head.stage), teacher and teacher(head.stage)
                self._check_width(name, maps[0][0].shape[1])
                crop_maps = small(head.stage) if small else ()
                known = images, masks, boxes, *maps, epoch, crop_maps
                pair = PairedViews(*known, self.directions)
                losses |= self._named(name, head.weighted_loss(pair), losses)
        return losses

    def _encode(
        self, encoder: Callable[..., Any], *views: Sequence[Tensor]
    ) -> Callable[[int], list[Tensor]]:
        """Encode some views; gives the maps of a stage, one of each view."""
        if self.joint_views:
            return self._encode_together(encoder, *views)
        outputs = [encoder(*view) for view in zip(*views, strict=True)]
        return lambda stage: [feature_map(output, stage) for output in outputs]

    def _encode_together(
        self, encoder: Callable[..., Any], *views: Sequence[Tensor]
    ) -> Callable[[int], list[Tensor]]:
        """As :meth:`_encode`, any number of views as one batch."""
        outputs = encoder(*(torch.cat(tuple(view)) for view in views))
        count = len(views[0])
        return lambda stage: list(feature_map(outputs, stage).chunk(count))

    def _named(
        self, name: str, entries: dict[str, Tensor], known: Collection[str]
    ) -> dict[str, Tensor]:
        """What a head logs; with its name before what an earlier one logs, too.

        Two heads of one kind are told apart even before the first one starts.
        """
        head = self.heads[name]
        earlier = itertools.takewhile(lambda other: other is not head, self._branches())
        alike = any(type(other).loss is type(head).loss for other in earlier)
        return {
            f'{name}_{key}' if alike or key in known else key: value
            for key, value in entries.items()
        }

    def _measured(self, head: dict, encoder: dict) -> dict[str, Any]:
        """What a head takes of the backbone and the images, and is not given."""
        stage = head.get('stage', -1)
        preprocessor = self.data_preprocessor
        measures: dict[str, Callable[[], Any]] = {
            'in_channels': lambda: self.student.output(stage).channels,
            'stride': lambda: self.student.output(stage).stride,
            'backbone': lambda: encoder.get('backbone'),
            'num_bands': lambda: preprocessor.num_bands,
            'mean': lambda: preprocessor.mean.flatten().tolist(),
            'std': lambda: preprocessor.std.flatten().tolist(),
        }
        wanted: Iterable[str] = getattr(part_class(head), 'measured', ())
        return {name: measures[name]() for name in wanted if head.get(name) is None}

    def _check_width(self, name: str, width: int) -> None:
        """Refuse a head that was made for another backbone."""
        given = self._given_widths.get(name, width)
        if given != width:
            raise ValueError(
                f'model.heads.{name}.in_channels={given}, but the feature map that it '
                f'reads has {width} channels; leave in_channels out, or set it to '
                'None, so that it is measured'
            )

    def _branches(self) -> Iterable[BranchHead]:
        return cast(Iterable[BranchHead], self.heads.values())

    def _check_teacher_is_updated(self) -> None:
        has_teacher = any(True for _ in self.teacher_pairs())
        if has_teacher and in_a_run() and not self.teacher_is_updated:
            raise ValueError(
                'the run has no TeacherUpdateHook, so the teacher would never move; '
                "add dict(type='TeacherUpdateHook') to custom_hooks (in a loop of "
                'your own, call update_teacher and set teacher_is_updated)'
            )

    def init_weights(self) -> None:
        """Initialise the student; the teacher starts as its copy."""
        super().init_weights()
        self.follow_student()

    def teacher_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Pairs of a student module and the teacher module that follows it."""
        if self.teacher is not None:
            yield self.student.backbone, self.teacher
        for head in self._branches():
            yield from head.teacher_pairs()

    @torch.no_grad()
    def follow_student(self) -> None:
        """Make the teacher an exact copy of the student, without gradients."""
        for student, teacher in self.teacher_pairs():
            teacher.load_state_dict(student.state_dict())
            teacher.requires_grad_(False)

    def momentum_at(self, step: int, num_steps: int, every: int = 1) -> float:
        """Teacher momentum of an iteration of the run.

        Args:
            step: Number of the iteration, from 0.
            num_steps: Iterations of the run.
            every: Iterations from one move of the teacher to the next.
        """
        first = self.momentum
        if self.momentum_half_life is not None:
            first = 0.5 ** (every / (self.momentum_half_life * num_steps))
        return 1 - (1 - first) * (math.cos(math.pi * step / num_steps) + 1) / 2

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Set ``teacher = momentum * teacher + (1 - momentum) * student``.

        Parameters only; BatchNorm statistics stay each network's own.

        Args:
            momentum (float): In 0-1.
        """
        student: list[Tensor] = []
        teacher: list[Tensor] = []
        for source, target in self.teacher_pairs():
            student += source.parameters()
            teacher += target.parameters()
        if teacher:
            get_ema_multi_avg_fn(momentum)(teacher, student, None)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """The student's last feature map, as mmpretrain's models give theirs.

        Args:
            inputs: Normalised whole images, (B, C, H, W).

        Returns:
            One map, (B, D, h, w).
        """
        return (self.student(inputs),)

    @torch.no_grad()
    def extract_feats(self, images: Tensor) -> Tensor:
        """Pooled features of whole images by the student's backbone.

        Args:
            images (Tensor): 0-255 scale, (B, C, H, W).

        Returns:
            Tensor: (B, D).
        """
        images = images.to(self.data_preprocessor.mean.device)
        return self.student(self.data_preprocessor.normalize(images)).mean((2, 3))

    @torch.no_grad()
    def reconstruct(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Reconstruct the masked first views of a batch.

        Args:
            batch (dict): Collated view pairs.

        Returns:
            dict[str, Tensor]: ``input``, ``masked``, ``reconstruction`` and
            ``target``, each normalised, (B, C, S, S).

        Raises:
            ValueError: If the model has no reconstruction head.
        """
        if 'reconstruction' not in self.heads:
            raise ValueError('the model has no head named "reconstruction"')
        views = self.data_preprocessor(batch)
        image, masked = views['images'][0], views['masked_images'][0]
        head: Any = self.heads['reconstruction']
        outputs = self.student.stages(masked, views['masks'][0])
        return dict(
            input=image,
            masked=masked,
            reconstruction=head(feature_map(outputs, head.stage)).float(),
            target=image,
        )


def feature_std(features: Sequence[Tensor]) -> Tensor:
    """Spread of pooled, normalised features over the batch; 0 tells of collapse.

    Args:
        features (Sequence[Tensor]): Feature maps, (B, D, h, w) each.

    Returns:
        Tensor: Standard deviation over the batch, averaged over channels and
        multiplied by ``sqrt(D)``: at most about 1, its value for isotropic features.
    """
    with torch.no_grad():
        pooled = torch.stack([feature.mean((2, 3)) for feature in features]).float()
        pooled = F.normalize(pooled, dim=2)  # views B D
        return pooled.std(1, unbiased=False).mean() * pooled.shape[2] ** 0.5
