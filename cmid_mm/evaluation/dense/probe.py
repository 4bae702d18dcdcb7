# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Fit a head on the cells of some windows, and score the pixels of others."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...isolation import modes_unchanged, rng_unchanged
from ...labels.errors import LabelError
from ...labels.masks import IGNORED
from ..apart import check_apart
from ..features import check_features
from .encoder import (
    NORMALIZATIONS,
    DenseEncoder,
    band_statistics,
    cell_labels,
    pixel_scores,
)
from .heads import HEADS, Classifier, Head
from .sample import CellSample
from .windows import LabelledWindows

DenseScore = Literal['dense_mIoU', 'dense_aAcc']
"""Names of the scores, in percent."""

#: Fewer test scenes than this say too little when they are drawn by whole scenes.
_FEW_SCENES = 8
_DRAWS = 1000


def check_pair(train: LabelledWindows, test: LabelledWindows) -> None:
    """Refuse test windows of other classes than those that are learnt, or of the same.

    Raises:
        LabelError: If the names of classes or their order differ.
        ValueError: If a scene is both learnt from and tested on, in the same area.
    """
    if train.classes != test.classes:
        raise LabelError(
            f'the labels of the test have the classes {", ".join(test.classes)}, but '
            f'those to learn from {", ".join(train.classes)}; name the same classes '
            'for both (classes)'
        )
    if None in (train.aoi, test.aoi) or train.aoi == test.aoi:
        check_apart(train.names, test.names)


def check_options(
    stages: Sequence[int] | None,
    normalization: str,
    head: str,
    max_cells: int | None,
    reduction: int,
) -> None:
    """Refuse options of :func:`probe_pixels` that it does not have.

    Raises:
        ValueError: If there is no such normalisation or head, there are no cells, or a
            stage is named twice or below 0.
    """
    if stages is not None and (
        not stages or len(set(stages)) < len(stages) or min(stages) < 0
    ):
        raise ValueError(
            f'stages={list(stages)}: expected numbers of stages of the backbone, '
            'counted from 0, each once'
        )
    for name, value, known in (
        ('normalization', normalization, NORMALIZATIONS),
        ('head', head, tuple(HEADS)),
    ):
        if value not in known:
            raise ValueError(f'{name} must be one of {known}, got {value!r}')
    for name, number in (('max_cells', max_cells), ('reduction', reduction)):
        if number is not None and number < 1:
            raise ValueError(f'{name} must be at least 1, got {number}')


def probe_pixels(
    model: nn.Module,
    train: LabelledWindows,
    test: LabelledWindows,
    stages: Sequence[int] | None = None,
    normalization: str = 'pretraining',
    head: str = 'linear',
    max_cells: int | None = None,
    reduction: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a head on the frozen features of windows, and score others by it.

    Features are not kept, but for the cells that the head is fitted on; these are
    drawn at random over all training windows.

    Args:
        model: See :class:`DenseEncoder`.
        train: Windows to learn from.
        test: Windows to segment, of the same classes.
        stages: See :class:`DenseEncoder`.
        normalization: By whose mean and deviation of each band images are normalised:
            those of the ``'pretraining'``, or of the ``'target'``, the training
            windows.
        head: ``'linear'``: multinomial logistic regression on standardised features
            of single cells. ``'conv'``: a 3x3 convolution of 128 channels with
            BatchNorm before it, on squares of 16 x 16 cells.
        max_cells: Cells to fit on. Defaults to None: 20,000, or 50,000 of ``'conv'``.
        reduction: See :class:`DenseEncoder`. Whatever it is, all pixels of the test are
            scored.
        seed: Of the drawing, of the head's weights and of the bootstrap.

    Returns:
        ``dense_mIoU`` in percent, over classes that occur in ``test``; ``interval``,
        95 %, by a bootstrap over its scenes, or its windows where there are fewer
        than eight scenes, as ``resampled`` says; ``IoU`` by the names of classes that
        occur, and the names of those ``without_test_pixels`` or
        ``without_training_cells``; ``dense_aAcc``; the options and ``feature_dim``,
        ``train_cells`` (known ones), ``test_scenes`` and ``test_windows``.

    Raises:
        ValueError: If an option is unknown, training cells are of one class, or a
            feature is NaN.
        LabelError: If the classes differ, or no window has labels.
    """
    check_pair(train, test)
    check_options(stages, normalization, head, max_cells, reduction)
    with rng_unchanged(), modes_unchanged(model):
        model.eval()
        torch.manual_seed(seed)
        is_target = normalization == 'target'
        mean, std = band_statistics(train) if is_target else (None, None)
        encoder = DenseEncoder(model, stages, mean, std, reduction)
        _check_cells(encoder, train.size)
        sample = _draw(encoder, train, HEADS[head], max_cells, seed)
        classify = HEADS[head].fit(sample.features, sample.labels, len(train.classes))
        matrices, owners = _test(encoder, classify, test)
    total = matrices.sum(0)
    known = sample.labels[sample.labels != IGNORED].long()
    iou = intersection_over_union(total)
    resampled = 'scenes' if len(owners.unique()) >= _FEW_SCENES else 'windows'
    if resampled == 'scenes':
        matrices = torch.stack([matrices[owners == i].sum(0) for i in owners.unique()])
    return dict(
        dense_mIoU=iou.nanmean().item(),
        interval=bootstrap_interval(matrices, seed),
        resampled=resampled,
        IoU={
            name: value
            for name, value, pixels in zip(
                train.classes, iou.tolist(), total.sum(1), strict=True
            )
            if pixels > 0
        },
        without_test_pixels=_without(train.classes, total.sum(1)),
        without_training_cells=_without(
            train.classes, known.bincount(minlength=len(train.classes))
        ),
        dense_aAcc=(100 * total.diagonal().sum() / total.sum()).item(),
        stages=None if stages is None else list(stages),
        normalization=normalization,
        head=head,
        reduction=reduction,
        feature_dim=sample.features.shape[1],
        train_cells=len(known),
        test_scenes=len(owners.unique()),
        test_windows=len(owners),
    )


def _without(classes: Sequence[str], counts: Tensor) -> list[str]:
    return [name for name, n in zip(classes, counts.tolist(), strict=True) if not n]


def _check_cells(encoder: DenseEncoder, window: int) -> None:
    """Refuse cells that are larger than windows, which would be padded to them."""
    if encoder.reduction > 1 and encoder.cell > window:
        most = max(1, window * encoder.reduction // encoder.cell)
        raise ValueError(
            f'reduction={encoder.reduction} makes cells of {encoder.cell} pixels, but '
            f'window={window}; expected a reduction of at most {most} or larger windows'
        )


def _draw(
    encoder: DenseEncoder,
    train: LabelledWindows,
    head: Head,
    max_cells: int | None,
    seed: int,
) -> CellSample:
    """The cells that a head is fitted on."""
    count = (max_cells or head.cells) // head.side**2
    sample = CellSample(max(1, count), head.side, seed)
    for _, image, mask in train:
        cells = encoder(image).cpu()
        grid, classes = cells.shape[1:], len(train.classes)
        sample.add(cells, cell_labels(mask, grid, classes, encoder.cell))
    check_features(sample.features.flatten(1))
    if len(sample.labels[sample.labels != IGNORED].unique()) < 2:
        raise ValueError('a probe needs training pixels of at least two classes')
    return sample


def _test(
    encoder: DenseEncoder, classify: Classifier, test: LabelledWindows
) -> tuple[Tensor, Tensor]:
    """Confusions of the windows, (N, K, K), and the indices of their scenes, (N,)."""
    confusions, scenes = [], []
    for scene, image, mask in test:
        height, width = mask.shape
        found = classify(encoder(image).cpu())
        scores = pixel_scores(found, height, width, encoder.cell)
        confusions.append(confusion(scores.argmax(0), mask, len(test.classes)))
        scenes.append(scene)
    return torch.stack(confusions).double(), torch.tensor(scenes)


def confusion(predicted: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts of pixels by true (row) and predicted class, (K, K)."""
    counted = mask != IGNORED
    pairs = mask[counted].long() * num_classes + predicted[counted]
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def intersection_over_union(confusion: Tensor) -> Tensor:
    """IoU of each class in percent, (..., K); NaN for classes without true pixels."""
    hits, true = confusion.diagonal(dim1=-2, dim2=-1), confusion.sum(-1)
    union = true + confusion.sum(-2) - hits
    return torch.where(true > 0, 100 * hits / union, torch.nan)


def bootstrap_interval(confusions: Tensor, seed: int) -> tuple[float, float]:
    """95 % interval of the mIoU of units that are drawn with replacement.

    Args:
        confusions: Of each unit, (N, K, K).
        seed: Of the draws.
    """
    count = len(confusions)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(count, (_DRAWS, count), generator=generator)
    times = torch.zeros(_DRAWS, count, dtype=confusions.dtype)
    times.scatter_add_(1, draws, torch.ones_like(times))
    sums = torch.einsum('rn,nij->rij', times, confusions)
    values = intersection_over_union(sums).nanmean(-1)
    low, high = values.quantile(values.new_tensor([0.025, 0.975])).tolist()
    return low, high
