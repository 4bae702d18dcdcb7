# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Warning of features that become the same for all images."""

from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch import Tensor

from ...evaluation.collapse import effective_rank, spread
from ...evaluation.features import feature_function
from ...isolation import modes_unchanged, rng_unchanged
from ...ranges import Count, NonNegative, Several
from .periodic_hook import PeriodicHook

#: Below it, one prototype or two take all that many were made for.
_PROTOTYPES = 0.01


@HOOKS.register_module()
class CollapseHook(PeriodicHook):
    """Warn of a pre-training whose features collapse.

    Every ``interval`` iterations the first process looks at the features of the last
    images it was given, one view of each, by the encoder in eval mode. It logs their
    standard deviation (``feature_std``, where the model does not) and effective rank
    (``effective_rank``), and warns if one is below its limit, or if the model logs
    ``prototypes_used`` and nearly none are. Training is not disturbed.

    Args:
        interval: Iterations between two looks.
        images: How many are looked at, as far as an interval gives so many.
        min_std: Limit of the standard deviation, whose greatest value is about 1.
            Untrained networks have 0.15 and more.
        min_rank: Limit of the effective rank, if there are eight times as many images.
            Untrained networks have a third of the number of images, trained ones more.
    """

    # Before the logger, which prints what is there.
    priority = 'NORMAL'

    def __init__(
        self,
        interval: Count = 500,
        images: Several = 256,
        min_std: NonNegative = 0.05,
        min_rank: NonNegative = 4.0,
    ) -> None:
        super().__init__(interval, by_epoch=False, at_end=False)
        self.images = images
        self.min_std = min_std
        self.min_rank = min_rank
        self._views: list[Tensor] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep the last images of an interval, and look at them at its end."""
        if not is_main_process():
            return
        views = data_batch['inputs']
        to_come = self.interval - 1 - runner.iter % self.interval
        if to_come * len(views) < self.images:
            self._views.append(views[:, 0] if views.ndim == 5 else views)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def look(self, runner: Runner, step: int, count: int) -> None:
        """Measure the features, log and judge them."""
        model: Any = get_ori_model(runner.model)
        features_of = feature_function(model)
        device = next(model.parameters()).device
        with rng_unchanged(), modes_unchanged(model), torch.no_grad():
            model.eval()
            features = [features_of(images.to(device)) for images in self._views]
        self._views = []
        found = torch.cat(features)
        std, rank = spread(found), effective_rank(found)
        hub = runner.message_hub
        if 'train/feature_std' not in hub.log_scalars:
            hub.update_scalar('train/feature_std', std)
        hub.update_scalar('train/effective_rank', rank)
        signs = []
        if std < self.min_std:
            signs.append(f'standard deviation {std:.3f}, below {self.min_std:g}')
        if rank < self.min_rank <= len(found) / 8:
            signs.append(f'effective rank {rank:.1f}, below {self.min_rank:g}')
        if 'train/prototypes_used' in hub.log_scalars:
            used = hub.get_scalar('train/prototypes_used').mean(self.interval)
            if used < _PROTOTYPES:
                signs.append(f'share of prototypes in use {used:.4f}')
        if signs:
            runner.logger.warning(
                f'Iteration {count}: the features of {len(found)} images are nearly '
                f'the same ({"; ".join(signs)}). If this goes on, the run has '
                'collapsed: see docs/reliability.md'
            )
