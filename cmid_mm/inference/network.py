# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What predicts a batch: a model, several, or several views of the batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from .views import VIEWS, View


class Network:
    """One or several models, which see each sample in one or several views.

    Args:
        models: In evaluation mode, on one device.
        views: How each of them sees each sample.
        half: Whether they compute in 16 bits where that serves.

    Raises:
        ValueError: If the device has no half precision.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        views: Sequence[View] = VIEWS['none'],
        half: bool = False,
    ) -> None:
        self.models: Sequence[Any] = models
        self.views = views
        self.half = half
        # Exported networks have no parameters of PyTorch's.
        weight = next(iter(models[0].parameters()), None)
        self.device = 'cpu' if weight is None else weight.device.type
        if half and self.device == 'cpu':
            raise ValueError(
                'half precision is for GPUs; on a CPU it saves no time: leave it out, '
                'or name a device'
            )

    @property
    def is_single(self) -> bool:
        """Whether a sample is predicted only once."""
        return len(self.models) * len(self.views) == 1

    def predict(
        self,
        samples: Sequence[dict[str, Any]],
        collate: Callable[[Sequence[dict[str, Any]]], Any],
    ) -> Iterator[tuple[View, Any]]:
        """Predict samples of one shape as the test loop does.

        Args:
            samples: As the test pipeline makes them.
            collate: Makes a batch of them.

        Yields:
            Of each model and view the predictions of all samples.
        """
        for view in self.views:
            for model in self.models:
                # What a model predicts is written into the sample.
                seen = samples if self.is_single else [*map(view.of_sample, samples)]
                with torch.autocast(self.device, torch.float16, self.half):
                    yield view, model.test_step(collate(seen))
