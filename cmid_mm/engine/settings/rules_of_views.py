# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Rules of settings, of views, their masks and small crops: see :mod:`.rules`."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ...configs import type_name
from .places import heads_of, model_of, pipelines_of, preprocessor_of, step_of


def views(cfg: Config) -> Iterator[str]:
    """Masks of the size of the views, of cells that the model can hide."""
    stride = (model_of(cfg).get('encoder') or {}).get('stride')
    preprocessor: Any = preprocessor_of(cfg)[1]
    reconstructs = any(type_name(h) == 'ReconstructionHead' for _, h in heads_of(cfg))
    for path, pipeline in pipelines_of(cfg, 'train'):
        views, masks = step_of(pipeline, 'ViewPair'), step_of(pipeline, 'MaskPair')
        if not views or not masks:
            continue
        where, mask = f'{path}.{masks[0]} (MaskPair)', masks[1]
        size, view_size = mask.get('size'), views[1].get('size')
        if size != view_size:
            yield (
                f'{where}: size={size}, but {path}.{views[0]} (ViewPair) has '
                f'size={view_size}: masks lie on the views; set both alike'
            )
        cell = mask.get('patch_size', 32)
        if stride and cell % stride:
            yield (
                f'{where}: patch_size={cell}, but model.encoder.stride={stride}: '
                'expected cells of whole positions of the encoder; set a multiple of '
                'the stride'
            )
        fine = preprocessor.get('mask_stride')
        if fine and cell % fine:
            yield (
                f'{where}: patch_size={cell}, but data_preprocessor.mask_stride={fine}'
                ': expected a multiple of it'
            )
        if reconstructs and not (mask.get('ratio', 0.6) and mask.get('share', 1.0)):
            yield (
                f'{where}: ratio={mask.get("ratio", 0.6)} and '
                f'share={mask.get("share", 1.0)} hide nothing, so the '
                'ReconstructionHead of model.heads has nothing to learn; hide some '
                'cells, or set the head to None'
            )
        yield from _faults_of_stride(cfg, f'{path}.{views[0]} (ViewPair)', view_size)


def decoder(cfg: Config) -> Iterator[str]:
    """A decoder that needs more than its own cell, and cannot see it."""
    encoder = model_of(cfg).get('encoder') or {}
    for path, head in heads_of(cfg):
        if (
            type_name(encoder) == 'VisibleEncoder'
            and type_name(head) == 'ReconstructionHead'
            and not head.get('hidden_channels')
        ):
            yield (
                f'{path}.hidden_channels={head.get("hidden_channels")}, but with '
                'model.encoder.type=VisibleEncoder all hidden cells hold the same '
                'features: expected a decoder that looks around, such as '
                'hidden_channels=128'
            )


def _faults_of_stride(cfg: Config, where: str, size: int) -> Iterator[str]:
    for path, head in heads_of(cfg):
        stride = head.get('stride')
        if stride and type_name(head) == 'ReconstructionHead' and size % stride:
            yield (
                f'{where}: size={size}, but {path}.stride={stride}: expected a '
                'multiple of the stride'
            )


def crops(cfg: Config) -> Iterator[str]:
    """Small crops that no head reads."""
    for path, pipeline in pipelines_of(cfg, 'train'):
        views = step_of(pipeline, 'ViewPair')
        reads = any(type_name(head) == 'MoCoHead' for _, head in heads_of(cfg))
        if views and views[1].get('num_crops') and not reads:
            yield (
                f'{path}.{views[0]} (ViewPair): num_crops={views[1].num_crops}, but no '
                'head of model.heads reads small crops; set num_crops=0, or add a '
                'MoCoHead'
            )
