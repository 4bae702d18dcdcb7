# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of reconstructions during pre-training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch import Tensor

from ...images.writing import write_image
from ...isolation import buffers_unchanged, modes_unchanged, rng_unchanged
from ...ranges import Count
from ...visualization.reconstruction import reconstruction_panel
from .periodic_hook import PeriodicHook


def all_masked(masks: Tensor) -> Tensor:
    """Masks of views, (B, 2, h, w), those that hide nothing replaced by others.

    ``MaskPair(share=...)`` leaves some views whole; nothing of them is reconstructed.
    """
    flat = masks.flatten(0, 1)
    hiding = flat.flatten(1).any(1)
    given = flat[hiding]
    if not len(given):
        return masks
    order = hiding.cumsum(0) - 1
    order[~hiding] = torch.arange(int((~hiding).sum())) % len(given)
    return given[order].view_as(masks)


@HOOKS.register_module()
class ReconstructionHook(PeriodicHook):
    """Draw what the student makes of the same masked images as training proceeds.

    The images are samples of the training data, with the augmentation and mask that
    their key in the data set determines, so pictures of different epochs and runs
    compare; those that the pipeline leaves whole get the mask of another. They are
    reconstructed in training mode, as the loss sees them: BatchNorm uses the
    statistics of these images, for the running ones lag behind in the first hundreds
    of iterations. Its running statistics, the random states and the training modes are
    put back, so a run ends with the same weights with and without this hook. Under data
    parallelism every process takes part, as synchronised BatchNorm requires, and the
    first one draws.

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
        ValueError: If there are fewer than two images (BatchNorm needs two), a band is
            below 1 or an index is outside the data set.
        TypeError: If the model has no method ``reconstruct``.
    """

    def __init__(
        self,
        interval: Count = 10,
        by_epoch: bool = True,
        num_images: Count = 8,
        indices: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
    ) -> None:
        super().__init__(interval, by_epoch)
        if (num_images if indices is None else len(indices)) < 2:
            raise ValueError(
                f'ReconstructionHook: num_images={num_images} and '
                f'indices={indices}: at least two images are needed, since they '
                'provide the statistics of BatchNorm'
            )
        if bands is not None and min(bands, default=0) < 1:
            raise ValueError(
                f'ReconstructionHook: bands count from 1, got {list(bands)}'
            )
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
        if 'masks' in self.batch:
            self.batch['masks'] = all_masked(self.batch['masks'])
        # Now and not at the first picture, after hours.
        count = self.batch['inputs'][0].shape[-3]
        shown = self.bands
        if shown is not None and (len(shown) not in (1, 3) or max(shown) >= count):
            raise ValueError(
                f'ReconstructionHook: bands must be one or three of 1 to {count}, the '
                f'loaded ones, got {[band + 1 for band in shown]}'
            )

    def look(self, runner: Runner, step: int, count: int) -> None:
        """Draw a picture."""
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
        unit, last = (
            ('epoch', runner.max_epochs)
            if self.by_epoch
            else ('iter', runner.max_iters)
        )
        name = f'{unit}_{count:0{len(str(last))}d}.png'
        path = Path(runner.work_dir, 'vis_data', 'reconstruction', name)
        write_image(path, image)
        runner.visualizer.add_image('reconstruction', image, step=step)
