# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The checkpoints that were published with the CMID paper."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpretrain.models import ResNet, SwinTransformer
from torch import Tensor

from ..dependencies import __version__
from .containers import abbreviate, state_dict_of
from .downstream import convert_network, recognize_network
from .families import Architecture, rename
from .families.naming import Names
from .finding import find_backbone
from .reading import (
    CheckpointError,
    read_checkpoint,
    refuse_same_file,
    write_checkpoint,
)

#: Normalisation of all published checkpoints, RGB on the 0-255 scale.
PUBLISHED_MEAN = [255 * value for value in (0.33797, 0.3605, 0.3348)]
PUBLISHED_STD = [255 * value for value in (0.1359, 0.1352, 0.1407)]

_ENCODERS = ('online_encoder.model.', 'branch_encoder.')
#: Names of a published checkpoint and of :class:`CMID`.
_NAMES: Names = (
    ('online_encoder.mask_token', 'student.mask_token'),
    ('online_encoder.model', 'student.backbone'),
    ('branch_encoder', 'teacher'),
    ('mim2org.decoder_pred.0', 'heads.reconstruction.decoder.0'),
    ('online_projector.layer.0.0', 'heads.contrastive.student_projector.0'),
    ('online_projector.layer.0.3', 'heads.contrastive.student_projector.2'),
    ('branch_projector.layer.0.0', 'heads.contrastive.teacher_projector.0'),
    ('branch_projector.layer.0.3', 'heads.contrastive.teacher_projector.2'),
    ('queue', 'heads.contrastive.queue'),
    ('queue_ptr', 'heads.contrastive.queue_ptr'),
    ('class_projector.mlp', 'heads.assignment.student_head.mlp'),
    ('branch_class_projector.mlp', 'heads.assignment.teacher_head.mlp'),
    *(
        (
            f'{published}.last_layer.weight_{letter}',
            f'heads.assignment.{ours}.prototypes.parametrizations.weight.{original}',
        )
        for published, ours in (
            ('class_projector', 'student_head'),
            ('branch_class_projector', 'teacher_head'),
        )
        for letter, original in (('g', 'original0'), ('v', 'original1'))
    ),
    ('class_loss.center', 'heads.assignment.center'),
)


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    config: str | None = None,
) -> dict[str, Any]:
    """Convert a published CMID checkpoint to one that our config of it loads strictly.

    Of a pre-training (ResNet or Swin) nothing is lost: student, teacher, projectors,
    prototypes, queue and centre keep their values under the names of :class:`CMID`.
    Kernels of 1-D convolutions of length one become matrices. Of the fine-tuned
    networks see :mod:`cmid_mm.checkpoints.downstream`; they may have been saved as
    whole modules.

    Args:
        source (str | PathLike): The published file.
        target (str | PathLike): The file to write.
        config (str, optional): Config to convert a fine-tuned network for, as for
            :func:`cmid_mm.configs.load_config`. Defaults to None: that of its row in
            the published tables.

    Returns:
        dict[str, Any]: The ``meta`` that was written: architecture, bands and
        normalisation; of fine-tuned networks also the config and the classes.

    Raises:
        CheckpointError: If a name is unknown or missing, or a shape is not as
            published.
    """
    refuse_same_file(source, target)
    content = read_checkpoint(source, mmap=True, skip_objects=True)
    state = state_dict_of(content, source)
    meta = content.get('meta')
    if isinstance(meta, Mapping) and not _OURS.isdisjoint(meta):
        raise CheckpointError(
            f'{source} is no published CMID checkpoint, but one of a present run or '
            'converted already; use it as it is'
        )
    network = recognize_network(state)
    if network is not None:
        converted = convert_network(network, meta, state, source, config)
    else:
        converted = _convert_pretraining(content, state, source)
    write_checkpoint(converted, target)
    return converted['meta']


#: What meta has that no published file has.
_OURS = frozenset(('cmid_mm_version', 'mmengine_version'))


def _convert_pretraining(
    content: Mapping[str, Any],
    state: Mapping[str, Any],
    source: str | os.PathLike[str],
) -> dict[str, Any]:
    architecture = _published_architecture(content, source)
    _check_names(state, architecture, source)
    converted = {
        name: _reshape(name, value, source)
        for name, value in rename(state, _NAMES).items()
    }
    meta = dict(
        source=Path(source).name,
        origin='published CMID checkpoint',
        architecture=str(architecture),
        bands=architecture.bands,
        mean=PUBLISHED_MEAN,
        std=PUBLISHED_STD,
        cmid_mm_version=__version__,
    )
    return dict(meta=meta, state_dict=converted)


def _published_architecture(
    checkpoint: Mapping[str, Any], source: str | os.PathLike[str]
) -> Architecture:
    # Either network tells, should a name of the other be missing.
    for network in ('student', 'teacher'):
        try:
            found = find_backbone(checkpoint, source, network)
        except CheckpointError:
            continue
        architecture = found.architecture
        if architecture is None or found.prefix not in _ENCODERS:
            continue
        if architecture.family == 'Swin' or architecture.resnet_depth is not None:
            return architecture
    raise CheckpointError(
        f'{source} is no published CMID checkpoint of a ResNet or Swin: it has no '
        "such backbone under 'online_encoder.model' and 'branch_encoder'"
    )


def _check_names(
    state: Mapping[str, Any],
    architecture: Architecture,
    source: str | os.PathLike[str],
) -> None:
    expected = _expected_names(architecture)
    unknown = [name for name in state if name not in expected]
    missing = [name for name in expected if name not in state]
    problems = [
        f'{what} {abbreviate(names, limit=20)}'
        for what, names in (('unknown names', unknown), ('missing names', missing))
        if names
    ]
    if problems:
        raise CheckpointError(
            f'{source} differs from a published CMID checkpoint of a '
            f'{architecture.name}: {"; ".join(problems)}; nothing was converted'
        )


def _expected_names(architecture: Architecture) -> dict[str, None]:
    """All names in a published checkpoint, in order."""
    if architecture.resnet_depth is not None:
        # Names depend on the depth only; one channel builds at once.
        backbone = ResNet(architecture.resnet_depth, stem_channels=4, base_channels=4)
        linear, norms = [0, 3, 6], [1, 4]
    else:
        depths = list(architecture.depths)
        arch = dict(embed_dims=4, depths=depths, num_heads=[1] * len(depths))
        backbone = SwinTransformer(arch)
        linear, norms = [0, 2, 4], []
    names = ['queue', 'queue_ptr', 'online_encoder.mask_token', 'class_loss.center']
    for encoder in _ENCODERS:
        names += [encoder + name for name in backbone.state_dict()]
    layers = ['mim2org.decoder_pred.0']
    batch_norms = []
    for network in ('online', 'branch'):
        layers += [f'{network}_projector.layer.0.{i}' for i in (0, 3)]
    for network in ('class_projector', 'branch_class_projector'):
        layers += [f'{network}.mlp.{i}' for i in linear]
        batch_norms += [f'{network}.mlp.{i}' for i in norms]
        names += [f'{network}.last_layer.weight_{letter}' for letter in 'gv']
    names += [f'{name}.{end}' for name in layers + batch_norms for end in _AFFINE]
    names += [f'{name}.{end}' for name in batch_norms for end in _STATISTICS]
    return dict.fromkeys(names)


_AFFINE = ('weight', 'bias')
_STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


def _reshape(name: str, value: Any, source: str | os.PathLike[str]) -> Tensor:
    """Give a tensor the shape that :class:`CMID` has it in."""
    if not isinstance(value, Tensor):
        raise CheckpointError(
            f'{source}: {name} is a {type(value).__name__}, expected a tensor'
        )
    if name in ('student.mask_token', 'heads.assignment.center'):
        if value.numel() != max(value.shape, default=0):
            raise CheckpointError(
                f'{source}: {name} has shape {tuple(value.shape)}, expected a vector'
            )
        return value.flatten()
    # Convolutions of length one over positions; BatchNorm's weights have no length.
    if name.startswith('heads.assignment.') and value.dim() == 3:
        if value.shape[2] != 1:
            raise CheckpointError(
                f'{source}: {name} has shape {tuple(value.shape)}, expected a last '
                'dimension of 1'
            )
        return value.squeeze(2)
    return value
