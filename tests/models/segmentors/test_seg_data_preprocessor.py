# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Normalising and padding of pairs."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import cmid_mm  # noqa: F401


@pytest.fixture(autouse=True)
def _scope(_seeded):
    init_default_scope('mmseg')


def preprocess(image, training=False, **settings):
    preprocessor = MODELS.build(dict(type='BitemporalPreprocessor', **settings))
    label = torch.ones(1, *image.shape[1:], dtype=torch.long)
    data_sample = SegDataSample(gt_sem_seg=PixelData(data=label))
    data_sample.set_metainfo(dict(img_shape=tuple(image.shape[1:])))
    return preprocessor(
        dict(inputs=[image], data_samples=[data_sample]), training=training
    )


def test_default_brings_values_to_0_1():
    image = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(4, 1, 1)
    result = preprocess(image)['inputs']
    torch.testing.assert_close(result.flatten(), torch.tensor([0, 0.2, 1, 0.4]))


def test_both_dates_are_normalised_alike():
    image = torch.tensor([10, 20, 30, 40, 50, 60], dtype=torch.uint8).view(6, 1, 1)
    result = preprocess(image, mean=[10, 20, 30], std=[1, 2, 3])['inputs']
    expected = torch.tensor([0.0, 0, 0, 30, 15, 10])
    torch.testing.assert_close(result.flatten(), expected)


def test_small_images_are_padded_and_the_rest_is_not_scored():
    result = preprocess(
        torch.full((6, 2, 3), 255, dtype=torch.uint8), training=True, size=(4, 4)
    )
    assert result['inputs'].shape == (1, 6, 4, 4)
    assert result['inputs'].sum() == 6 * 2 * 3
    label = result['data_samples'][0].gt_sem_seg.data
    assert (label == 255).sum() == 16 - 6


def test_mean_and_std_of_different_length_are_refused():
    with pytest.raises(ValueError, match='3 values of mean, but 1 of std'):
        preprocess(torch.zeros(6, 2, 2), mean=[1, 2, 3], std=[1])
