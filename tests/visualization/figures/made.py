# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""An encoder whose features are known, and images for it."""

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from affine import Affine
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn

from cmid_mm.visualization.figures import FigureEncoder

CELL = 32


class MeanColours(nn.Module):
    """A backbone whose features are the mean colours of cells of 32 pixels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)  # tells the device

    def forward(self, images):
        return (F.avg_pool2d(images, CELL),)


def colour_encoder(window=512, **options):
    """The encoder; features are colours, less 127.5."""
    model = nn.Module()
    model.backbone = MeanColours()
    model.data_preprocessor = MODELS.build(
        dict(type='ViewPairPreprocessor', mean=[127.5] * 3, std=[1.0] * 3)
    )
    return FigureEncoder(model, window=window, **options)


def colours(rows, columns, seed=0):
    """A different colour for each cell, (rows, columns, 3)."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def write_cells(path, cells):
    """An image of cells of one colour each."""
    pixels = cells.repeat(CELL, 0).repeat(CELL, 1)
    Image.fromarray(pixels).save(path)
    return path


def write_raster(path, cells, left=0.0, metres=1.0, nodata=None, crs='EPSG:32632'):
    """The same as a GeoTIFF whose left edge lies at an easting."""
    pixels = cells.repeat(CELL, 0).repeat(CELL, 1).transpose(2, 0, 1)
    place = Affine.translation(500000 + left, 5200000) @ Affine.scale(metres, -metres)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        count=3,
        dtype='uint8',
        height=pixels.shape[1],
        width=pixels.shape[2],
        crs=crs,
        transform=place,
        nodata=nodata,
    ) as file:
        file.write(pixels)
    return path


def centred(cells):
    """Features of cells, (D, h, w)."""
    return torch.from_numpy(cells.astype(np.float32)).permute(2, 0, 1) - 127.5
