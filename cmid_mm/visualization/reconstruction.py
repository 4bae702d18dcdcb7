# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of masked images and their reconstruction."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..models.data_preprocessor import upsample_mask
from .drawing import GAP, TITLE_HEIGHT, write_text

MIN_CELL = 160
"""Least side of an image in the panel in pixels; smaller ones are enlarged."""

FULL_ERROR = 64
"""Mean absolute error, of 255, at the bright end of the error's colours."""


def reconstruction_panel(
    panels: Mapping[str, Tensor],
    masks: Tensor,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    bands: Sequence[int] | None = None,
    max_images: int = 8,
) -> np.ndarray:
    """Draw inputs and reconstructions side by side, one row an image.

    The columns are the input; the input of the student; the decoder's whole output;
    the input with the decoder's output in the masked cells, which shows seams; and
    the absolute error there, averaged over the shown bands (black 0, yellow
    ``FULL_ERROR`` and more, grey not masked), with its mean written on it.
    Values are put back on the 0-255 scale (x * std + mean) and clipped. Imagery of
    other than three bands, whose values seldom fill that scale, is stretched from
    the 2nd to the 98th percentile of each input band; errors are then of stretched
    values.

    Args:
        panels (Mapping[str, Tensor]): ``input``, ``masked``, ``reconstruction`` and
            ``target``, normalised, (B, C, S, S) each: the result of
            ``CMID.reconstruct``.
        masks (Tensor): Boolean cells, True where masked, (B, h, w).
        mean (Sequence[float] | Tensor): Mean of each band on the 0-255 scale, C
            values of any shape.
        std (Sequence[float] | Tensor): Standard deviation, likewise.
        bands (Sequence[int], optional): Three of the C bands, counted from 0, to
            show as red, green and blue, or one to show in grey. Defaults to None:
            the first three, or the first when there are fewer.
        max_images (int): Images drawn at most. Defaults to 8.

    Returns:
        np.ndarray: RGB, uint8, (height, width, 3).

    Raises:
        ValueError: If ``bands`` is not one or three bands of the images, or
            ``mean`` or ``std`` does not fit the bands.
    """
    pixels, error, hidden = reconstruction_pixels(
        panels, masks, mean, std, bands, max_images
    )
    size = error.shape[1:]
    columns = {**pixels, 'error': _draw_errors(error, hidden)}
    enlarge = -(-MIN_CELL // size[1])  # ceiling
    strips = [
        _draw_column(title, images.round().astype(np.uint8), enlarge)
        for title, images in columns.items()
    ]
    for row, (row_error, row_hidden) in enumerate(zip(error, hidden, strict=True)):
        if row_hidden.any():
            bottom = TITLE_HEIGHT + (row + 1) * (size[0] * enlarge + GAP)
            text = f'{row_error[row_hidden].mean():.1f}'
            write_text(strips[-1], text, 6, bottom - GAP - 7)
    return np.concatenate(strips, axis=1)


def reconstruction_pixels(
    panels: Mapping[str, Tensor],
    masks: Tensor,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    bands: Sequence[int] | None = None,
    max_images: int = 8,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """What :func:`reconstruction_panel` draws, for the same arguments.

    Returns:
        Its first four columns by title, 0-255, (B, S, S, 3) each; the errors,
        (B, S, S); and which pixels were masked, bool (B, S, S).
    """
    num_bands = panels['input'].shape[1]
    if bands is None:
        bands = (0, 1, 2) if num_bands >= 3 else (0,)
    if len(bands) not in (1, 3) or not all(0 <= band < num_bands for band in bands):
        raise ValueError(
            f'bands must be one or three of 0 to {num_bands - 1}, got {list(bands)}'
        )
    shown = list(bands) * (3 // len(bands))
    shift = _per_band(mean, num_bands, 'mean')
    scale = _per_band(std, num_bands, 'std')

    def to_pixels(images: Tensor) -> np.ndarray:
        pixels = images[:max_images].detach().float().cpu() * scale + shift
        return pixels[:, shown].permute(0, 2, 3, 1).numpy()  # (B, S, S, 3)

    pixels = {name: to_pixels(images) for name, images in panels.items()}
    if num_bands != 3:
        low, high = np.percentile(
            pixels['input'], (2, 98), axis=(1, 2), keepdims=True
        )  # (B, 1, 1, 3)
        # A flat band has no contrast to stretch.
        gain = 255 / np.maximum(high - low, 1)
        pixels = {name: (value - low) * gain for name, value in pixels.items()}
    pixels = {name: value.clip(0, 255) for name, value in pixels.items()}

    size = panels['input'].shape[-2:]
    hidden = upsample_mask(masks[:max_images].cpu(), size)[:, 0].numpy()  # (B, S, S)
    composite = np.where(hidden[..., None], pixels['reconstruction'], pixels['input'])
    error = np.abs(pixels['reconstruction'] - pixels['target']).mean(-1)  # (B, S, S)
    columns = {
        'input': pixels['input'],
        'masked input': pixels['masked'],
        'decoder output': pixels['reconstruction'],
        'filled in': composite,
    }
    return columns, error, hidden


def _per_band(values: Sequence[float] | Tensor, num_bands: int, name: str) -> Tensor:
    """Values of each band as (1, C, 1, 1)."""
    tensor = torch.as_tensor(values, dtype=torch.float32).cpu()
    if tensor.numel() != num_bands:
        raise ValueError(
            f'{name} has {tensor.numel()} values, but the images have {num_bands} bands'
        )
    return tensor.view(1, num_bands, 1, 1)


def _draw_errors(error: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Colour errors (B, S, S) of hidden pixels; others become grey."""
    level = (error * (255 / FULL_ERROR)).clip(0, 255).astype(np.uint8)
    drawn = [
        cv2.applyColorMap(image, cv2.COLORMAP_INFERNO)[..., ::-1] for image in level
    ]
    return np.where(hidden[..., None], np.stack(drawn), 128)


def _draw_column(title: str, images: np.ndarray, enlarge: int) -> np.ndarray:
    """Stack images (B, H, W, 3) below their title, white between them."""
    images = images.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    padded = np.pad(
        images, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255
    )  # (B, H + GAP, W + GAP, 3)
    body = padded.reshape(-1, *padded.shape[2:])
    column = np.pad(body, ((TITLE_HEIGHT, 0), (0, 0), (0, 0)), constant_values=255)
    write_text(column, title, 2, TITLE_HEIGHT - 7, (0, 0, 0), outline=False)
    return column
