# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Small labelled images, and a network to probe on them."""

import numpy as np
from PIL import Image

from cmid_mm.evaluation.dense import LabelledWindows
from tests.toy import toy_model

SIZE = 70, 90


def write_tiles(folder, count=4):
    """Tiles whose classes are their brightness: 0 dark, 1 bright, a strip ignored."""
    generator = np.random.default_rng(0)
    for part in ('img', 'ann'):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, 32 * (index % 2 + 1) :] = 1
        image = np.where(mask == 1, 200, 40)[..., None] + generator.integers(
            0, 20, (*SIZE, 3)
        )
        mask[:4] = 255
        Image.fromarray(image.astype(np.uint8)).save(folder / 'img' / f'{index}.jpg')
        Image.fromarray(mask).save(folder / 'ann' / f'{index}.png')
    return folder


def windows_of(folder, images='img', **options):
    """The tiles as windows."""
    labels = dict(path='ann/{stem}.png', classes=['dark', 'bright'], ignore=[255])
    options = dict(window=64, data_root=str(folder), **options)
    return LabelledWindows(images, labels, **options)


def toy_network(stages=(3,), **backbone):
    """A thin network with random weights."""
    backbone = dict(
        dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
        out_indices=stages,
        **backbone,
    )
    encoder = dict(backbone=backbone, insert_after='maxpool', channels=8, stride=4)
    return toy_model(encoder=encoder, heads={})
