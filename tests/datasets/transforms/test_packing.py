# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose

from cmid_mm.datasets.transforms import PackViewPair


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [1, 3, 8])
def test_packed_sample(dtype, channels):
    generator = np.random.default_rng(0)
    org, view = generator.integers(0, 256, (2, 16, 16, channels)).astype(dtype)
    masks = generator.random((2, 4, 4)) < 0.5
    boxes = generator.random((2, 5)).astype(np.float32)
    sample = PackViewPair()(
        {'org': org, 'view': view, 'masks': masks, 'boxes': boxes, 'sample_idx': 7}
    )
    assert set(sample) == {'inputs', 'masks', 'boxes', 'index'}
    assert all(tensor.is_contiguous() for tensor in sample.values())
    expected = np.stack([org, view]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(sample['inputs'].numpy(), expected)
    assert sample['inputs'].numpy().dtype == dtype
    assert sample['masks'].dtype == torch.bool
    assert sample['boxes'].dtype == torch.float32
    assert sample['index'].dtype == torch.int64
    assert sample['index'].shape == () and sample['index'] == 7


@pytest.mark.parametrize('key, maker', [('org', 'ViewPair'), ('masks', 'MaskPair')])
def test_missing_transform_is_named(key, maker):
    image = np.zeros((8, 8, 3), np.uint8)
    results = {'org': image, 'view': image, 'masks': image, 'sample_idx': 0}
    del results[key]
    with pytest.raises(KeyError, match=maker):
        PackViewPair()(results)


def test_small_crops_are_packed_like_views():
    crops = [np.random.randint(0, 256, (4, 4, 3), np.uint8) for _ in range(2)]
    views = {name: np.zeros((8, 8, 3), np.uint8) for name in ('org', 'view')}
    rest = dict(masks=np.zeros((2, 2, 2), bool), boxes=np.zeros((2, 5), np.float32))
    packed = PackViewPair()(dict(**views, **rest, crops=crops, sample_idx=0))
    assert packed['crops'].shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(packed['crops'][1], crops[1].transpose(2, 0, 1))
    assert 'crops' not in PackViewPair()(dict(**views, **rest, crops=[], sample_idx=0))


@pytest.mark.parametrize(
    ('lacking', 'message'),
    [
        ('LoadImagery', "ViewPair needs 'img': put LoadImagery"),
        ('ViewPair', "PhotometricNoise needs 'view': put ViewPair before it"),
        ('MaskPair', "PackViewPair needs 'masks': put MaskPair before it"),
    ],
)
def test_a_pipeline_that_lacks_a_step_says_which(lacking, message):
    steps = [
        dict(type='LoadImagery', size=32),
        dict(type='ViewPair', size=32),
        dict(type='PhotometricNoise'),
        dict(type='MaskPair', size=32, patch_size=16),
        dict(type='PackViewPair'),
    ]
    pixels = np.zeros((32, 32, 3), np.uint8)
    sample = dict(img=pixels, sample_idx=0)
    Compose(steps)(dict(sample))
    if lacking == 'LoadImagery':
        sample = dict(sample_idx=0)
    with pytest.raises(KeyError, match=message):
        Compose([step for step in steps if step['type'] != lacking])(sample)
