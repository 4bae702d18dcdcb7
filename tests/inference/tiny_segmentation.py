# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A segmentor of one convolution, and rasters for it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rasterio
import torch
from mmengine.config import Config
from rasterio.transform import from_origin
from torch import nn

from cmid_mm.inference.change_detection import ChangeDetection
from cmid_mm.inference.segmentation import Segmentation

CLASSES = ('road', 'house', 'tree')
PLACE = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 0.5, 0.5))


class OneConvolution(nn.Module):
    """Sees one pixel further than each pixel.

    Args:
        bands: Of the images.
        classes: Number of classes; 1 gives the probability of the second of two.
    """

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.out_channels = classes
        self.decode_head = SimpleNamespace(threshold=0.5)
        self.layer = nn.Conv2d(bands, classes, 3, padding=1)
        nn.init.normal_(self.layer.weight, std=2)
        self.calls: list[int] = []
        #: Number of calls after which it fails.
        self.fails_after: int | None = None

    def test_step(self, batch):
        if self.fails_after is not None and len(self.calls) >= self.fails_after:
            raise RuntimeError('stopped')
        inputs = torch.stack(batch['inputs']).float() / 255
        self.calls.append(len(inputs))
        logits = self.layer(inputs)
        if self.out_channels == 1:
            logits = logits.sigmoid()
            masks = logits > self.decode_head.threshold
        else:
            masks = logits.argmax(1, keepdim=True)
        return [
            SimpleNamespace(
                seg_logits=SimpleNamespace(data=score),
                pred_sem_seg=SimpleNamespace(data=mask),
            )
            for score, mask in zip(logits, masks, strict=True)
        ]


def segmentation(classes: int = 3) -> Segmentation:
    """The task with this model, on images of three bands."""
    return _task(Segmentation, 'LoadImagery', 3, classes)


def change_detection(classes: int = 2) -> ChangeDetection:
    """The same on pairs."""
    return _task(ChangeDetection, 'LoadImagePair', 6, classes)


def _task(kind, loader, bands, classes):
    pipeline = [dict(type=loader), dict(type='PackSegInputs')]
    cfg = Config(
        dict(
            default_scope='mmseg',
            model=dict(),
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    return kind(cfg, OneConvolution(bands, classes), dict(classes=CLASSES))


def write_raster(path: Path, height: int, width: int, **options) -> Path:
    """An image of soft noise; rows 60 to 100 of the columns from 30 on lack data."""
    rng = np.random.default_rng(len(path.stem))
    coarse = rng.integers(1, 256, (3, height // 8 + 1, width // 8 + 1), np.uint8)
    pixels = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    pixels[:, 60:100, 30:] = 0
    place = PLACE | options
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        height=height,
        width=width,
        count=3,
        dtype='uint8',
        nodata=0,
        **{key: value for key, value in place.items() if value is not None},
    ) as target:
        target.write(pixels)
    return path
