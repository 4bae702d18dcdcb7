# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Nearest neighbours and a linear probe during pre-training."""

from typing import Any

import torch
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.utils.data import Subset

from ...evaluation.features import (
    LabelledFolder,
    check_features,
    check_test,
    extract_features,
    knn_accuracy,
    linear_probe_accuracy,
)
from ...isolation import rng_unchanged
from ...ranges import Count, Index, Positive
from .evaluation_hook import EvaluationHook


@HOOKS.register_module()
class FeatureEvaluationHook(EvaluationHook):
    """Log how well frozen features tell labelled scenes apart.

    A falling loss does not say that features become useful; this does. The scalars
    ``knn_top1`` and ``linear_top1`` (percent) go to the visualizer's backends beside
    the losses, at the iteration of the evaluation, and to the log, with the values
    from before the first iteration beside them. Training is not disturbed: random
    states, training modes and BatchNorm statistics stay what they were, so a run
    ends with the same weights with and without this hook.

    Under data parallelism each process extracts its share of the features; the
    first one classifies.

    Args:
        train (dict): ``root`` and optionally ``list_file`` of the labelled images
            to learn from, see :class:`LabelledFolder`.
        test (dict): The same of the images to classify.
        interval (int): Epochs (iterations) between evaluations. Defaults to 10.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        size (int): Side of the images in pixels. Defaults to 224.
        batch_size (int): Images per forward pass and process. Defaults to 64.
        num_workers (int): Processes that load images. Defaults to 2.
        knn (bool): Whether to log ``knn_top1``. Defaults to True.
        linear_probe (bool): Whether to log ``linear_top1``. Defaults to True.
        k (int): Neighbours that vote. Defaults to 20.
        temperature (float): Temperature of their weights. Defaults to 0.07.
        evaluate_before_training (bool): Whether to evaluate the initial weights,
            the reference of all later values. Defaults to True.
        at_end (bool): Whether to evaluate at the end of training in any case.
            Defaults to True.
        **loading: ``num_bands``, ``bands``, ``value_range`` and ``nodata`` as in
            :class:`cmid_mm.datasets.LoadImagery`.

    Raises:
        ValueError: If nothing is to be evaluated, or the labelled images are unusable.
    """

    def __init__(
        self,
        train: dict,
        test: dict,
        interval: Count = 10,
        by_epoch: bool = True,
        size: Count = 224,
        batch_size: Count = 64,
        num_workers: Index = 2,
        knn: bool = True,
        linear_probe: bool = True,
        k: Count = 20,
        temperature: Positive = 0.07,
        evaluate_before_training: bool = True,
        at_end: bool = True,
        **loading: Any,
    ) -> None:
        super().__init__(interval, by_epoch, evaluate_before_training, at_end)
        if not knn and not linear_probe:
            raise ValueError(
                'FeatureEvaluationHook: knn and linear_probe are both False; '
                'remove the hook to evaluate nothing'
            )
        # Built here, so that a wrong path stops the run before it begins.
        self.train_set = LabelledFolder(**train, size=size, **loading)
        self.test_set = LabelledFolder(
            **test, class_names=self.train_set.class_names, size=size, **loading
        )
        check_test(self.train_set, self.test_set)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.knn = knn
        self.linear_probe = linear_probe
        self.k = k
        self.temperature = temperature

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Extract the features, and classify them in the first process."""
        train = self._gather_features(model, self.train_set)
        test = self._gather_features(model, self.test_set)
        if not is_main_process():
            return {}
        with rng_unchanged():
            return self._classify(train, test)

    def _classify(
        self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
    ) -> dict[str, float]:
        metrics = {}
        if self.knn:
            metrics['knn_top1'] = knn_accuracy(
                *train, *test, k=self.k, temperature=self.temperature
            )
        if self.linear_probe:
            metrics['linear_top1'] = linear_probe_accuracy(*train, *test)
        return metrics

    def _gather_features(
        self, model: nn.Module, dataset: LabelledFolder
    ) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the data set, shared by all processes."""
        rank, world_size = get_dist_info()
        shard: Subset = Subset(dataset, range(rank, len(dataset), world_size))
        own = extract_features(model, shard, self.batch_size, self.num_workers)
        shards = all_gather_object(own)
        features = torch.cat([part for part, _ in shards])
        labels = torch.cat([part for _, part in shards])
        # Processes took every world_size-th image: back to the data set's order.
        taken = [
            i for r in range(world_size) for i in range(len(dataset))[r::world_size]
        ]
        order = torch.tensor(taken).argsort()
        # Here, where every process sees them, so that all of them stop.
        check_features(features)
        return features[order], labels[order]
