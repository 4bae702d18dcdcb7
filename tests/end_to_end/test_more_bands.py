# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Testing on images of five bands of 16 bits: augmented, and with pictures."""

import copy
import json

import cv2
import numpy as np
import pytest
import rasterio
import torch

from cmid_mm.configs import build_model
from cmid_mm.images import find_images, load_image

from .trained_tasks import dump

LOAD = dict(num_bands=5, value_range=(0, 3000))


def to_five_bands(folder):
    """Replace photographs: their bands, and two more, in 0-3000."""
    for path in find_images(folder):
        red, green, blue = load_image(path).astype(np.float64).transpose(2, 0, 1)
        bands = np.stack([red, green, blue, 255 - red, (green + blue) / 2])
        height, width = red.shape
        with rasterio.open(
            *(path.with_suffix('.tif'), 'w'),
            driver='GTiff',
            height=height,
            width=width,
            count=5,
            dtype='uint16',
        ) as file:
            file.write((bands * 3000 / 255).astype(np.uint16))
        path.unlink()


@pytest.fixture
def five_bands(data, trained, tmp_path):
    """Config and checkpoint of a task on such images."""

    def get(task):
        cfg = copy.deepcopy(trained(task)[0])
        root = tmp_path / task
        for path in (data / task).rglob('*'):
            if path.is_file():
                copied = root / path.relative_to(data / task)
                copied.parent.mkdir(parents=True, exist_ok=True)
                copied.write_bytes(path.read_bytes())
        pipeline = cfg.test_dataloader.dataset.pipeline
        pipeline[0].update(LOAD)
        cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
        cfg.test_dataloader.dataset.update(data_root=str(root), indices=2)
        cfg.model.backbone.in_channels = 5
        statistics = dict(mean=[100.0] * 5, std=[60.0] * 5)
        if task == 'segmentation':
            to_five_bands(root / 'test' / 'img')
            cfg.test_dataloader.dataset.update(img_suffix='.tif')
            cfg.model.data_preprocessor = dict(
                type='MultiBandSegPreprocessor',
                size=(96, 96),
                seg_pad_val=255,
                **statistics,
            )
        else:
            for date in 'AB':
                to_five_bands(root / 'test' / date)
            cfg.model.data_preprocessor.update(statistics)
        torch.manual_seed(0)
        checkpoint = tmp_path / 'random.pth'
        torch.save(dict(state_dict=build_model(cfg).state_dict()), checkpoint)
        return dump(cfg, tmp_path / f'{task}.py'), checkpoint

    return get


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_augmentation_and_pictures(task, five_bands, run, tmp_path):
    config, checkpoint = five_bands(task)
    metrics, pictures = [], []
    for number, options in enumerate(
        [(), ('--bands', 5, 4, 1), ('--tta', '--bands', 5, 4, 1)]
    ):
        out = tmp_path / str(number)
        common = ('--work-dir', tmp_path / 'work', '--json', out / 'metrics.json')
        options = (*options, '--show-dir', out / 'shown')
        assert run('test.py', config, checkpoint, *common, *options) is None
        metrics.append(json.loads((out / 'metrics.json').read_text())['metrics'])
        shown = sorted((out / 'shown').rglob('*.jpg'))
        assert len(shown) == 2
        pictures.append(cv2.imread(str(shown[0])).astype(int))
    assert metrics[0] == metrics[1] != metrics[2]
    # The left panel is the image: other bands are other colours, TTA changes nothing.
    image = np.s_[30:300, :300]
    assert np.abs(pictures[0][image] - pictures[1][image]).mean() > 10
    assert np.abs(pictures[1][image] - pictures[2][image]).mean() < 1
