# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import torch

from cmid_mm.evaluation.dense import LabelledWindows, probe_pixels
from cmid_mm.evaluation.dense.probe import (
    bootstrap_interval,
    confusion,
    intersection_over_union,
)
from cmid_mm.images import Reading
from cmid_mm.labels.errors import LabelError
from tests.datasets.windowed.ground import write_polygons, write_raster

from .made import toy_network, windows_of, write_tiles


@pytest.mark.parametrize('reduction', [1, 2])
@pytest.mark.parametrize('head', ['linear', 'conv'])
def test_brightness_is_told_by_any_features(tmp_path, head, reduction):
    write_tiles(tmp_path)
    train = windows_of(tmp_path, ['img/0.jpg', 'img/1.jpg'])
    test = windows_of(tmp_path, 'img/[23].jpg')
    model = toy_network()
    before = [p.clone() for p in model.state_dict().values()]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    result = probe_pixels(model, train, test, (1, 2), head=head, reduction=reduction)
    assert torch.rand(1) == expected
    for old, new in zip(before, model.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert model.training
    assert result['dense_mIoU'] > (85 if reduction == 1 else 70)
    assert result['reduction'] == reduction
    assert result['IoU'].keys() == {'dark', 'bright'}
    low, high = result['interval']
    assert low <= result['dense_mIoU'] <= high <= 100
    assert (result['feature_dim'], result['stages']) == (16 + 32, [1, 2])
    assert (result['test_scenes'], result['test_windows']) == (2, 8)
    assert result['resampled'] == 'windows'
    again = probe_pixels(model, train, test, (1, 2), head=head, reduction=reduction)
    assert again == result


def test_scenes_under_a_vector_layer(tmp_path):
    """Memory holds some cells only, and most of the ground is not labelled."""
    pytest.importorskip('geopandas')
    rng = np.random.default_rng(0)
    bands = rng.integers(100, 400, (4, 96, 192)).astype(np.uint16)
    boxes = [(0, 0, 32, 64), (32, 0, 64, 64), (128, 0, 160, 96), (160, 0, 192, 96)]
    for left, top, right, bottom in boxes[::2]:
        bands[3, top:bottom, left:right] += 2000
    write_raster(tmp_path / 'a.tif', bands)
    write_polygons(tmp_path / 'f.gpkg', boxes, crop=['rye', 'hay'] * 2)
    for name, box in dict(west=(0, 0, 96, 96), east=(96, 0, 192, 96)).items():
        write_polygons(tmp_path / f'{name}.gpkg', [box])
    train, test = (
        LabelledWindows(
            'a.tif',
            dict(path='f.gpkg', field='crop'),
            64,
            f'{name}.gpkg',
            str(tmp_path),
            Reading(4, value_range=(0, 3000)),
        )
        for name in ('west', 'east')
    )
    model = toy_network(in_channels=4)
    model.data_preprocessor.mean = torch.full((4, 1, 1), 100.0)
    model.data_preprocessor.std = torch.full((4, 1, 1), 50.0)
    result = probe_pixels(model, train, test, (1,), 'target', max_cells=40)
    assert result['train_cells'] == 40
    assert result['dense_mIoU'] > 80
    assert result['normalization'] == 'target'
    assert result['resampled'] == 'windows'


def test_iou_of_a_confusion_by_hand():
    true = torch.tensor([[0, 0, 1], [1, 255, 0]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 0]])
    matrix = confusion(predicted, true, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    iou = intersection_over_union(matrix).tolist()
    assert iou[:2] == pytest.approx([200 / 3, 200 / 3])
    assert math.isnan(iou[2])


def test_interval_of_units_that_differ():
    good, bad = torch.tensor([[8, 0], [0, 8]]), torch.tensor([[4, 4], [4, 4]])
    same = torch.stack([good] * 5).double()
    assert bootstrap_interval(same, 0) == (100, 100)
    mixed = torch.stack([good, bad] * 10).double()
    low, high = bootstrap_interval(mixed, 0)
    # Of half of the pixels three quarters are right: IoU 12 / 20.
    assert 45 < low < 60 < high < 80
    assert bootstrap_interval(mixed, 0) == (low, high)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(head='big'), "head must be one of .*, got 'big'"),
        (dict(normalization='own'), "normalization must be one of .*, got 'own'"),
        (dict(max_cells=0), 'max_cells must be at least 1'),
        (dict(reduction=0), 'reduction must be at least 1'),
        (dict(reduction=3), 'reduction=3 makes cells of 96 .* at most 2 or larger'),
        (dict(stages=(5,)), r'of the stages \(5,\)'),
        (dict(stages=(3, 3)), r'stages=\[3, 3\]: expected numbers'),
        (dict(stages=(-1,)), r'stages=\[-1\]: expected numbers'),
        (dict(stages=()), r'stages=\[\]: expected numbers'),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    write_tiles(tmp_path, 2)
    train, test = (windows_of(tmp_path, f'img/{i}.jpg') for i in range(2))
    with pytest.raises(ValueError, match=message):
        probe_pixels(toy_network(), train, test, **options)


def test_a_diverged_network_is_told(tmp_path):
    write_tiles(tmp_path, 2)
    train, test = (windows_of(tmp_path, f'img/{i}.jpg') for i in range(2))
    model = toy_network()
    torch.nn.init.constant_(model.student.backbone.conv1.weight, torch.nan)
    with pytest.raises(ValueError, match='training has diverged'):
        probe_pixels(model, train, test)


def test_other_classes_and_one_class_alone_are_refused(tmp_path):
    write_tiles(tmp_path, 2)
    windows = windows_of(tmp_path, 'img/0.jpg')
    labels = dict(path='ann/{stem}.png', classes=['bright', 'dark'], ignore=[255])
    other = LabelledWindows('img', labels, data_root=str(tmp_path))
    with pytest.raises(LabelError, match='have the classes bright, dark, but'):
        probe_pixels(toy_network(), windows, other)
    labels = dict(path='ann/{stem}.png', classes=['dark', 'bright'], ignore=[1, 255])
    other = LabelledWindows('img/0.jpg', labels, data_root=str(tmp_path))
    with pytest.raises(ValueError, match='at least two classes'):
        probe_pixels(toy_network(), other, windows_of(tmp_path, 'img/1.jpg'))


def test_a_test_on_what_was_learnt_is_refused(tmp_path):
    write_tiles(tmp_path, 2)
    (tmp_path / 'other').symlink_to(tmp_path / 'img')
    both, same = windows_of(tmp_path), windows_of(tmp_path, 'other/1.jpg')
    with pytest.raises(ValueError, match='1 of the 1 test images are learnt from'):
        probe_pixels(toy_network(), both, same)


def test_classes_that_do_not_occur_are_told(tmp_path):
    write_tiles(tmp_path, 2)
    names = ['dark', 'bright', 'snow']
    labels = dict(path='ann/{stem}.png', classes=names, ignore=[255])
    train, test = (
        LabelledWindows(f'img/{i}.jpg', labels, 64, data_root=str(tmp_path))
        for i in range(2)
    )
    result = probe_pixels(toy_network(), train, test)
    assert result['without_training_cells'] == ['snow']
    assert result['without_test_pixels'] == ['snow']
    assert [*result['IoU']] == ['dark', 'bright']
