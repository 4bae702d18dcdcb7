# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch
from PIL import Image

from cmid_mm.evaluation.dense import (
    DenseEncoder,
    MaskedFolder,
    band_statistics,
    cell_labels,
    confusion,
    intersection_over_union,
    probe_pixels,
)
from tests.toy import toy_model


def write_set(folder, count=4, size=(70, 90)):
    """Tiles whose classes are their brightness: 0 dark, 1 bright, a strip ignored."""
    generator = np.random.default_rng(0)
    for part in ('img', 'ann'):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        mask = np.zeros(size, np.uint8)
        mask[:, 32 * (index % 2 + 1) :] = 1
        image = np.where(mask == 1, 200, 40)[..., None] + generator.integers(
            0, 20, (*size, 3)
        )
        mask[:4] = 255
        Image.fromarray(image.astype(np.uint8)).save(folder / 'img' / f'{index}.jpg')
        Image.fromarray(mask).save(folder / 'ann' / f'{index}.png')
    return folder / 'img', folder / 'ann'


def encoder(stages=(1, 2), **kwargs):
    backbone = dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8, out_indices=stages
    )
    model = toy_model(
        encoder=dict(backbone=backbone, insert_after='maxpool', channels=8, stride=4),
        heads={},
    )
    return DenseEncoder(model, **kwargs)


@pytest.mark.parametrize('head', ['linear', 'conv'])
def test_brightness_is_told_by_any_features(tmp_path, head):
    folders = write_set(tmp_path)
    train = MaskedFolder(*folders, 2, ['0', '1'], window=64)
    test = MaskedFolder(*folders, 2, ['2', '3'], window=64)
    probe = encoder()
    before = [p.clone() for p in probe.model.state_dict().values()]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    result = probe_pixels(probe, train, test, head)
    assert torch.rand(1) == expected
    for old, new in zip(before, probe.model.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert probe.model.training
    assert result['mIoU'] > 85
    low, high = result['interval']
    assert low <= result['mIoU'] <= high <= 100
    assert result['feature_dim'] == 16 + 32
    assert result['test_images'] == 2


def test_windows_cover_each_pixel_once(tmp_path):
    folder = MaskedFolder(*write_set(tmp_path, 1), 2, window=64)
    counted = sum(int((mask != 255).sum()) for _, _, mask in folder.windows())
    assert counted == (70 - 4) * 90


def test_a_cell_has_the_class_of_most_of_its_pixels():
    mask = torch.zeros(40, 32, dtype=torch.uint8)
    mask[:16, :9] = 1  # 9 of 16 columns of the first cell
    mask[16:32, 16:25] = 255
    labels = cell_labels(mask, (4, 2), 2)  # padded to 64 x 32
    assert labels.tolist() == [[1, 0], [0, 255], [0, 0], [255, 255]]


def test_coarse_maps_are_enlarged_to_the_finest():
    features = encoder(stages=(1, 3))(torch.rand(3, 70, 90) * 255)
    assert features.shape == (16 + 64, 12, 12)  # 96 x 96 at stride 8


def test_normalising_by_the_target(tmp_path):
    folder = MaskedFolder(*write_set(tmp_path), 2)
    mean, std = band_statistics(folder)
    pixels = torch.cat([image.flatten(1) for image, _ in folder.images()], 1).double()
    torch.testing.assert_close(mean.double(), pixels.mean(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        std.double(), pixels.std(1, unbiased=False), rtol=1e-4, atol=0
    )
    image = next(iter(folder.images()))[0]
    by_target = encoder(band_mean=mean, band_std=std)
    # The same network on an image that has the pre-training's statistics already.
    same = encoder()((image - mean.view(-1, 1, 1)) / std.view(-1, 1, 1) * 50 + 100)
    torch.testing.assert_close(by_target(image), same, rtol=1e-3, atol=1e-4)


def test_iou_of_a_confusion_by_hand():
    true = torch.tensor([[0, 0, 1], [1, 255, 0]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 0]])
    matrix = confusion(predicted, true, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    iou = intersection_over_union(matrix).tolist()
    assert iou[:2] == pytest.approx([200 / 3, 200 / 3])
    assert math.isnan(iou[2])


def test_an_image_without_a_mask_is_named(tmp_path):
    images, masks = write_set(tmp_path)
    (masks / '3.png').unlink()
    with pytest.raises(FileNotFoundError, match="ann has no image named '3'"):
        MaskedFolder(images, masks, 2)
