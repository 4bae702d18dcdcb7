# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Spectra of reconstructions as the training goes on."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from .style import COLUMN, LETTERS, VALUES, title

_LEGEND = 4  # entries beside each other
_NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')


def checkpoints_of(names: Sequence[str | Path]) -> dict[str, Path]:
    """Checkpoints in the order of their epochs, by a label.

    Args:
        names: Files, or folders of runs, whose ``epoch_*.pth`` (else ``iter_*.pth``)
            are meant.

    Raises:
        FileNotFoundError: If a folder has none, or there is no such file.
    """
    found: dict[str, Path] = {}
    for path in map(Path, names):
        files = [path]
        if path.is_dir():
            for unit in ('epoch', 'iter'):
                files = sorted(path.glob(f'{unit}_*.pth'), key=_number)
                if files:
                    break
            else:
                raise FileNotFoundError(
                    f'{path} has no epoch_*.pth; name checkpoints, or the folder of a '
                    'run with several (default_hooks.checkpoint.max_keep_ckpts=-1)'
                )
        for file in files:
            match = _NAME.fullmatch(file.name)
            label = ' '.join(match.groups()) if match else file.stem
            found[label if label not in found else str(file)] = file
    return found


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[2]) if match else -1


def radial_power(images: Tensor) -> NDArray[np.float64]:
    """Power of images by spatial frequency.

    Args:
        images: (B, C, S, S).

    Returns:
        Mean squared modulus of the orthonormal 2-D Fourier transform, over images,
        bands and directions, of 0, 1, ..., S / 2 periods per side.
    """
    power = torch.fft.fft2(images.double(), norm='ortho').abs().square().mean((0, 1))
    side = power.shape[-1]
    along = torch.fft.fftfreq(side, dtype=torch.float64) * side
    radius = torch.hypot(along[:, None], along).round().long().flatten()
    totals = radius.bincount(power.flatten().cpu())
    return (totals / radius.bincount())[: side // 2 + 1].numpy()


def spectra_figure(
    reconstructions: Mapping[str, Mapping[str, Tensor]], width: float = COLUMN
) -> Figure:
    """Draw spectra of reconstructions, and of their distance from the images.

    The distance is the squared modulus of the difference of both transforms, which the
    focal frequency loss weighs and averages.

    Args:
        reconstructions: Results of ``CMID.reconstruct`` for the same images by label,
            earlier epochs first.
        width: Of the figure in inches.

    Returns:
        Power by spatial frequency, on logarithmic axes.
    """
    # A legend fills its columns one after the other: as many as its rows need.
    entries = len(reconstructions) + 1
    rows = -(-entries // _LEGEND)
    height = 0.62 * width + 0.14 * (rows - 1)
    figure = Figure(figsize=(width, height), layout='constrained')
    left, right = figure.subplots(1, 2)
    colours = matplotlib.colormaps[VALUES](np.linspace(0, 0.9, len(reconstructions)))
    target: Tensor | None = None
    for (label, panels), colour in zip(reconstructions.items(), colours, strict=True):
        target = panels['target'].float()
        made = panels['reconstruction'].float()
        for ax, images in ((left, made), (right, made - target)):
            power = radial_power(images)[1:]
            periods = np.arange(1, len(power) + 1)
            ax.plot(periods, power, color=colour, lw=1.1, label=label)
    if target is not None:
        power = radial_power(target)[1:]
        periods = np.arange(1, len(power) + 1)
        left.plot(periods, power, color='black', lw=1.1, ls='--', label='images')
    for ax, text in ((left, 'power'), (right, 'distance from the images')):
        ax.set(xscale='log', yscale='log')
        ax.tick_params(labelsize=LETTERS - 1, which='both')
        ax.set_xlabel('periods per side', fontsize=LETTERS)
        ax.grid(alpha=0.3)
        title(ax, text)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc='outside lower center',
        ncols=-(-entries // rows),
        fontsize=LETTERS - 1,
        frameon=False,
    )
    return figure
