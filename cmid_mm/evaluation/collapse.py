# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How many ways features differ from image to image."""

import torch
import torch.nn.functional as F
from torch import Tensor


def spread(features: Tensor) -> float:
    """Standard deviation of unit features over images; 0 if all are the same.

    Args:
        features: (N, D).

    Returns:
        The mean over channels, times ``sqrt(D)``: about 1 for features in all
        directions, as ``feature_std`` of CMID.
    """
    units = F.normalize(features.float(), dim=1)
    return float(units.std(0, unbiased=False).mean() * features.shape[1] ** 0.5)


def effective_rank(features: Tensor) -> float:
    """Number of directions in which features differ, each counted by its share.

    The exponential of the entropy of the normalised singular values (Roy and Vetterli,
    EUSIPCO 2007) of the features without their mean.

    Args:
        features: (N, D).

    Returns:
        From 1, all features on a line, to the smaller of N - 1 and D; 0 if all are the
        same.
    """
    features = features.double().cpu()
    singular = torch.linalg.svdvals(features - features.mean(0))
    # What rounding leaves of a difference of equal numbers is none.
    singular = singular[singular > 1e-6 * features.norm()]
    if not len(singular):
        return 0.0
    return float(torch.special.entr(singular / singular.sum()).sum().exp())
