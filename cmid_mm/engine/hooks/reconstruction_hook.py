# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of reconstructions during pre-training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model

from ...images.writing import write_image
from ...isolation import buffers_unchanged, modes_unchanged, rng_unchanged
from ...visualization.reconstruction import reconstruction_panel


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw what the student makes of the same masked images as training proceeds.

    The images are samples of the training data, with the augmentation and mask that
    their key in the data set determines, so pictures of different epochs and runs
    compare. They are reconstructed in training mode, as the loss sees them:
    BatchNorm uses the statistics of these images, for the running ones lag behind
    in the first hundreds of iterations. Its running statistics, the random states and
    the training modes are put back, so a run ends with the same weights with and
    without this hook. Under data parallelism every process takes part, as
    synchronised BatchNorm requires, and the first one draws.

    Of a model whose ``heads`` include no ``reconstruction`` nothing is drawn, so that
    removing the head needs no other change of the config.

    A picture goes to ``work_dir/vis_data/reconstruction`` and to the visualizer's
    backends (TensorBoard).

    Args:
        interval (int): Epochs (iterations) between pictures. Defaults to 10.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        num_images (int): Number of images, spread evenly over the data set.
            Defaults to 8.
        indices (Sequence[int], optional): Positions in the training data set of
            the images to draw instead. Defaults to None.
        bands (Sequence[int], optional): Three of the loaded bands, counted from 1,
            to show as red, green and blue, or one. Defaults to None, the first
            three.

    Raises:
        ValueError: If ``interval`` is not positive or there are fewer than two images
            (BatchNorm needs two), a band is below 1 or an index is outside the data
            set.
        TypeError: If the model has no method ``reconstruct``.
    """

    def __init__(
        self,
        interval: int = 10,
        by_epoch: bool = True,
        num_images: int = 8,
        indices: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
    ) -> None:
        if interval < 1:
            raise ValueError(
                f'ReconstructionHook: interval must be at least 1, got {interval}'
            )
        if (num_images if indices is None else len(indices)) < 2:
            raise ValueError(
                'ReconstructionHook: at least two images are needed, since they '
                'provide the statistics of BatchNorm'
            )
        if bands is not None and min(bands) < 1:
            raise ValueError(
                f'ReconstructionHook: bands count from 1, got {list(bands)}'
            )
        self.interval = interval
        self.by_epoch = by_epoch
        self.num_images = num_images
        self.indices = indices
        self.bands = None if bands is None else [band - 1 for band in bands]
        self.batch: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Load the images."""
        model: Any = get_ori_model(runner.model)
        self.batch = None
        if 'reconstruction' not in getattr(model, 'heads', ('reconstruction',)):
            runner.logger.info(
                'ReconstructionHook: the model has no reconstruction head, '
                'no pictures will be drawn'
            )
            return
        if not hasattr(model, 'reconstruct'):
            raise TypeError(
                f'ReconstructionHook: {type(model).__name__} has no method '
                'reconstruct(batch); remove the hook from custom_hooks'
            )
        loader = runner.train_dataloader
        size = len(loader.dataset)
        indices = self.indices
        if indices is None:
            number = min(self.num_images, size)
            # Data sets are often sorted by class: the first would look alike.
            indices = [i * size // number for i in range(number)]
        outside = [index for index in indices if not 0 <= index < size]
        if outside:
            raise ValueError(
                f'ReconstructionHook: indices {outside} are outside the training '
                f'data set of {size} images'
            )
        with rng_unchanged():
            self.batch = loader.collate_fn([loader.dataset[i] for i in indices])

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw every ``interval`` epochs and after the last one."""
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval)
            or self.is_last_train_epoch(runner)
        ):
            width = len(str(runner.max_epochs))
            self._draw(runner, runner.iter, f'epoch_{runner.epoch + 1:0{width}d}')

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Draw every ``interval`` iterations and after the last one."""
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval)
            or self.is_last_train_iter(runner)
        ):
            width = len(str(runner.max_iters))
            step = runner.iter + 1
            self._draw(runner, step, f'iter_{step:0{width}d}')

    def _draw(self, runner: Runner, step: int, name: str) -> None:
        if self.batch is None:
            return
        model: Any = get_ori_model(runner.model)
        with rng_unchanged(), modes_unchanged(model), buffers_unchanged(model):
            model.train()
            # The same dropped paths, if any, in every picture.
            torch.manual_seed(0)
            panels = model.reconstruct(self.batch)
        if not is_main_process():
            return
        image = reconstruction_panel(
            panels,
            self.batch['masks'][:, 0],
            model.data_preprocessor.mean,
            model.data_preprocessor.std,
            self.bands,
            max_images=len(panels['input']),
        )
        path = Path(runner.work_dir, 'vis_data', 'reconstruction', f'{name}.png')
        write_image(path, image)
        runner.visualizer.add_image('reconstruction', image, step=step)
