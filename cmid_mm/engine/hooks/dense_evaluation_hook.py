# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A probe of each pixel during pre-training."""

from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from torch import nn

from ...evaluation.dense import LabelledWindows, probe_pixels
from ...evaluation.dense.probe import check_options, check_pair
from ...images import Reading
from ...ranges import Count
from .evaluation_hook import EvaluationHook


@HOOKS.register_module()
class DenseEvaluationHook(EvaluationHook):
    """Log how well frozen features tell the classes of pixels apart.

    The scalars ``dense_mIoU`` and ``dense_aAcc`` (percent) of
    :func:`~cmid_mm.evaluation.dense.probe_pixels` are logged as those of
    :class:`FeatureEvaluationHook`, and training is disturbed as little. The first
    process measures, the others wait.

    Args:
        train: ``images``, ``labels`` and optionally ``aoi`` of the windows to learn
            from, see :class:`~cmid_mm.evaluation.dense.LabelledWindows`.
        test: The same of the windows to segment.
        window: Side of the windows in pixels. Defaults to 512.
        data_root: Folder that all names are relative to. Defaults to ''.
        stages: Stages of the backbone, counted from 0. Defaults to None: those that
            it gives.
        normalization: ``'pretraining'`` (default) or ``'target'``.
        head: ``'linear'`` (default) or ``'conv'``.
        max_cells: Cells that the head is fitted on. Defaults to None, some number.
        reduction: Side of the squares of pixels whose mean the network gets as one.
            Defaults to 1, images as they are.
        interval: Epochs (iterations) between evaluations. Defaults to 10.
        by_epoch: Whether ``interval`` counts epochs. Defaults to True.
        evaluate_before_training: Whether to evaluate the initial weights. Defaults to
            True.
        at_end: Whether to evaluate at the end of training in any case. Defaults to
            True.
        **loading: ``num_bands``, ``bands``, ``value_range``, ``nodata``, ``gsd`` and
            ``quality`` as in :class:`cmid_mm.datasets.LoadImagery`.

    Raises:
        FileNotFoundError: If images or labels are missing.
        LabelError: If the labels cannot be used, or those of the test differ in their
            classes.
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        train: dict[str, Any],
        test: dict[str, Any],
        window: Count = 512,
        data_root: str = '',
        stages: Sequence[int] | None = None,
        normalization: str = 'pretraining',
        head: str = 'linear',
        max_cells: Count | None = None,
        reduction: Count = 1,
        interval: Count = 10,
        by_epoch: bool = True,
        evaluate_before_training: bool = True,
        at_end: bool = True,
        **loading: Any,
    ) -> None:
        super().__init__(interval, by_epoch, evaluate_before_training, at_end)
        check_options(stages, normalization, head, max_cells, reduction)
        # Built here, so that a wrong path stops the run before it begins.
        self.train_windows, self.test_windows = (
            LabelledWindows(
                **part, window=window, data_root=data_root, reading=Reading(**loading)
            )
            for part in (train, test)
        )
        check_pair(self.train_windows, self.test_windows)
        self.options: dict[str, Any] = dict(
            stages=stages,
            normalization=normalization,
            head=head,
            max_cells=max_cells,
            reduction=reduction,
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Fit and score the head, in the first process."""
        if not is_main_process():
            return {}
        found = probe_pixels(
            model, self.train_windows, self.test_windows, **self.options
        )
        return {name: found[name] for name in ('dense_mIoU', 'dense_aAcc')}
