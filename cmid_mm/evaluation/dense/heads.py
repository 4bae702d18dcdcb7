# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Small classifiers of the cells of feature maps."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ...labels.masks import IGNORED
from ..features import LINEAR_PROBE_C

#: Turns a feature map, (D, h, w), into scores, (K, h, w).
Classifier = Callable[[Tensor], Tensor]

_EPOCHS, _BATCH = 20, 4
_LOST = -1e4


def fit_linear(features: Tensor, labels: Tensor, num_classes: int) -> Classifier:
    """Fit a multinomial logistic regression on standardised features of single cells.

    Args:
        features: (N, D, 1, 1).
        labels: (N, 1, 1).
        num_classes: Number of classes.
    """
    rows = features[:, :, 0, 0].numpy()
    scaler = StandardScaler().fit(rows)
    probe = LogisticRegression(C=LINEAR_PROBE_C, max_iter=200, random_state=0)
    with warnings.catch_warnings():
        # The last digits of the loss do not change a prediction.
        warnings.simplefilter('ignore', ConvergenceWarning)
        probe.fit(scaler.transform(rows), labels[:, 0, 0].numpy())
    weight = torch.from_numpy(probe.coef_ / scaler.scale_).float()
    bias = torch.from_numpy(probe.intercept_).float()
    bias = bias - weight @ torch.from_numpy(scaler.mean_).float()
    if len(weight) == 1:  # of two classes only the second has weights
        weight, bias = F.pad(weight, (0, 0, 1, 0)), F.pad(bias, (1, 0))
    learnt = torch.from_numpy(probe.classes_)

    def classify(feature: Tensor) -> Tensor:
        logits = torch.einsum('kd,dhw->khw', weight, feature) + bias[:, None, None]
        # Classes that were not learnt lose; by a number, as scores are interpolated.
        scores = feature.new_full((num_classes, *feature.shape[1:]), _LOST)
        scores[learnt] = logits.log_softmax(0).clamp(min=_LOST)
        return scores

    return classify


def fit_convolution(features: Tensor, labels: Tensor, num_classes: int) -> Classifier:
    """Fit a 3x3 convolution of 128 channels with BatchNorm before the classifier.

    Args:
        features: (N, D, s, s).
        labels: (N, s, s), 255 ignored.
        num_classes: Number of classes.
    """
    width = features.shape[1]
    network = nn.Sequential(
        nn.BatchNorm2d(width),
        nn.Conv2d(width, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, num_classes, 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    steps = _EPOCHS * -(-len(features) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(_EPOCHS):
        for batch in torch.randperm(len(features)).split(_BATCH):
            scores = network(features[batch])
            loss = F.cross_entropy(scores, labels[batch], ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()

    @torch.no_grad()
    def classify(feature: Tensor) -> Tensor:
        return network(feature[None])[0]

    return classify


class Head(NamedTuple):
    """A kind of classifier.

    Attributes:
        fit: Takes features, labels and the number of classes.
        side: Cells along a side of the squares that it is fitted on.
        cells: How many these have in all, unless said otherwise.
    """

    fit: Callable[[Tensor, Tensor, int], Classifier]
    side: int
    cells: int


HEADS = {
    'linear': Head(fit_linear, 1, 20_000),
    'conv': Head(fit_convolution, 16, 50_000),
}
