# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From a config and a checkpoint to the accuracies of its frozen encoder."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..checkpoints.fitting import load_weights
from ..checkpoints.loading import load_backbone
from ..checkpoints.stored_images import compare_reading, stored_reading
from ..configs import build_model, load_config
from ..images import Reading
from ..overrides import merge_options
from .features import (
    LabelledFolder,
    accuracy_per_class,
    check_test,
    extract_features,
    knn_accuracy,
    linear_probe_predict,
)
from .features import accuracy as share_right

FeatureScore = Literal['knn_top1', 'linear_top1']
"""Names of the accuracies, in percent."""

RANDOM = 'random'
"""Stands for the untrained encoder where a checkpoint is expected."""


def load_frozen_encoder(
    config: str | Path,
    checkpoint: str | Path,
    backbone_only: bool = False,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    loading: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a model and load its weights, all of them.

    Args:
        config (str | Path): Config with a ``model``.
        checkpoint (str | Path): Checkpoint of a run, or ``'random'`` for the
            initial weights.
        backbone_only (bool): Whether the checkpoint is that of a backbone, in any
            layout that ``load_backbone`` knows; the rest of the model, which
            features do not depend on, keeps its initial weights. Defaults to False.
        seed (int): Seed of the initial weights. Defaults to 0.
        options (dict, optional): Config options of the run, by dotted key. Defaults
            to None.
        loading: Options of ``LoadImagery`` by which images will be read, to warn if
            those of the checkpoint were read otherwise. Defaults to None, unknown.

    Returns:
        nn.Module: The model, in eval mode, on the CPU.

    Raises:
        FileNotFoundError: If the config does not exist.
        ValueError: If the config has no model.
        KeyError: If an option leads nowhere in the config.
        CheckpointError: If the checkpoint cannot be read or does not fit the model.
    """
    cfg = load_config(str(config))
    merge_options(cfg, options)
    if 'model' not in cfg:
        raise ValueError(f'{config} has no model; expected a training config')
    cfg.setdefault('default_scope', 'mmpretrain')
    torch.manual_seed(seed)
    model = build_model(cfg)
    if str(checkpoint) == RANDOM or backbone_only:
        model.init_weights()
    if str(checkpoint) == RANDOM:
        return model.eval()
    if backbone_only:
        encoder = getattr(model, 'student', model)
        stored = load_backbone(encoder.backbone, checkpoint).reading
    else:
        stored = stored_reading(dict(meta=load_weights(model, checkpoint)))
    if loading is not None:
        bands = model.data_preprocessor.mean.numel()
        compare_reading(checkpoint, stored, Reading(bands, **loading))
    return model.eval()


def evaluate_frozen_encoder(
    model: nn.Module,
    train_set: LabelledFolder,
    test_set: LabelledFolder,
    k: int = 20,
    temperature: float = 0.07,
    batch_size: int = 64,
    num_workers: int = 2,
) -> dict[str, float | dict[str, float]]:
    """Nearest neighbours and linear probe of a model's features.

    Args:
        model (nn.Module): Has ``extract_feats``.
        train_set (LabelledFolder): Images to learn from.
        test_set (LabelledFolder): Images to classify.
        k (int): Neighbours that vote. Defaults to 20.
        temperature (float): Temperature of their weights. Defaults to 0.07.
        batch_size (int): Images per forward pass. Defaults to 64.
        num_workers (int): Processes that load images. Defaults to 2.

    Returns:
        dict: ``knn_top1`` and ``linear_top1`` in percent, ``linear_per_class``, by
        name of the classes with test images, ``feature_dim``, ``train_images`` and
        ``test_images``.

    Raises:
        ValueError: If an image is among both.
    """
    check_test(train_set, test_set)
    train = extract_features(model, train_set, batch_size, num_workers)
    test_features, test_labels = extract_features(
        model, test_set, batch_size, num_workers
    )
    predicted = linear_probe_predict(*train, test_features)
    names: Sequence[str] = train_set.class_names
    per_class = accuracy_per_class(predicted, test_labels, len(names))
    return dict(
        knn_top1=knn_accuracy(*train, test_features, test_labels, k, temperature),
        linear_top1=share_right(predicted, test_labels),
        linear_per_class={
            name: value
            for name, value in zip(names, per_class, strict=True)
            if not math.isnan(value)
        },
        feature_dim=test_features.shape[1],
        train_images=len(train_set),
        test_images=len(test_set),
    )
