# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the student makes of masked images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from torch import Tensor

from ...configs import type_name, wrapped_datasets
from ...datasets.transforms.masking import MaskPair
from ...isolation import rng_unchanged
from ..reconstruction import FULL_ERROR, reconstruction_pixels
from .source import FigureEncoder
from .style import COLUMN, colour_bar, panels, title

#: Of the columns but the error's, short enough for a fifth of a column of a paper.
_TITLES = ('input', 'masked', 'decoder', 'filled in')


def masking_of(cfg: Config) -> MaskPair:
    """The masking of a config's training pipeline.

    Args:
        cfg: Config of the pre-training.

    Raises:
        ValueError: If it has none.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    for part in wrapped_datasets(dataset):
        for step in part.get('pipeline') or []:
            if type_name(step) == 'MaskPair':
                options = {k: v for k, v in step.items() if k != 'type'}
                return MaskPair(**{**options, 'share': 1.0})
    raise ValueError('the config masks no images: its train pipeline has no MaskPair')


def masked_batch(
    encoder: FigureEncoder,
    images: Sequence[str | Path],
    masking: MaskPair,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Images as a batch for ``CMID.reconstruct``: their middle, in the views' size.

    Args:
        encoder: Reads them.
        images: Files; smaller ones are enlarged.
        masking: Draws the masks.
        seed: Of the masks.
    """
    side = masking.size
    pixels = []
    for path in images:
        with encoder.open(path) as image:
            height, width = image.height, image.width
            if min(height, width) < side:
                least = min(height, width)
                reading = replace(encoder.reading, size=side)
            else:
                least, reading = side, encoder.reading
            window = (height - least) // 2, (width - least) // 2, least, least
            loaded, _ = image.load(reading, window)
        pixels.append(torch.from_numpy(loaded).permute(2, 0, 1).float())
    with rng_unchanged():
        np.random.seed(seed)
        masks = [masking.transform({})['masks'] for _ in images]
    views = torch.stack(pixels)
    boxes = torch.tensor([0.0, 0.0, side, side, 0.0])
    return dict(
        inputs=torch.stack([views, views], 1),
        masks=torch.from_numpy(np.stack(masks)),
        boxes=boxes.expand(len(images), 2, 5),
        index=torch.arange(len(images)),
    )


def reconstructions(
    encoder: FigureEncoder, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """``CMID.reconstruct`` of a batch.

    Raises:
        ValueError: If the model has no reconstruction head.
    """
    model = encoder.model
    if not hasattr(model, 'reconstruct') or 'reconstruction' not in model.heads:
        raise ValueError(
            f'this {type(model).__name__} reconstructs nothing: its config sets no '
            'head named reconstruction (model.heads.reconstruction); choose another '
            'figure'
        )
    return model.reconstruct(batch)


def reconstruction_figure(
    encoder: FigureEncoder,
    images: Sequence[str | Path],
    masking: MaskPair,
    seed: int = 0,
    width: float = COLUMN,
) -> Figure:
    """Draw masked images and what the student makes of them.

    In evaluation mode, so that an image's reconstruction does not depend on the others.

    Args:
        encoder: Of CMID with a reconstruction head.
        images: Files, of which the middle is drawn in the size of the views.
        masking: As of :func:`masking_of`.
        seed: Of the masks.
        width: Of the figure in inches.

    Returns:
        A row for each image, in the columns of
        :func:`~cmid_mm.visualization.reconstruction_panel`.

    Raises:
        ValueError: If the model reconstructs nothing.
    """
    batch = masked_batch(encoder, images, masking, seed)
    preprocessor = encoder.model.data_preprocessor
    bands = encoder.show_bands and [band - 1 for band in encoder.show_bands]
    columns, error, hidden = reconstruction_pixels(
        reconstructions(encoder, batch),
        batch['masks'][:, 0],
        preprocessor.mean,
        preprocessor.std,
        bands,
        len(images),
    )
    figure, axes = panels(len(images), 5, 1, width, bar=True)
    drawn: Any = None
    for number, row in enumerate(axes):
        for ax, name, pixels in zip(row, _TITLES, columns.values(), strict=False):
            ax.imshow(pixels[number].round().astype(np.uint8))
            if not number:
                title(ax, name)
        shown = np.where(hidden[number], error[number], np.nan)
        drawn = row[4].imshow(shown, cmap='cividis', vmin=0, vmax=FULL_ERROR)
        mean = np.nanmean(shown) if hidden[number].any() else 0.0
        title(row[4], f'error: {mean:.1f}')
    colour_bar(figure, drawn, axes, 'mean absolute error of masked pixels, of 255')
    return figure
