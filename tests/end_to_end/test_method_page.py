# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The method on one screen, as it stands in docs/method.md."""

import re

import pytest
import torch
import torch.nn.functional as F

from .pages import ROOT, blocks


@pytest.fixture(scope='module')
def sketch():
    (block,) = blocks(ROOT / 'docs' / 'method.md', 'python')
    names: dict = {'printed': []}
    names['print'] = names['printed'].append
    exec(block.text, names)
    return names


def test_it_trains(sketch):
    assert len(sketch['printed']) == 2
    for line in sketch['printed']:
        values = [float(value) for value in re.findall(r'\d+\.\d+', line)]
        assert len(values) == 3 and all(0 < value < 10 for value in values)
    assert sketch['token'].abs().max() > 0
    student, teacher = (
        sketch[name].stages[0].weight for name in ('student', 'teacher')
    )
    assert 0 < (student - teacher).abs().max() < 0.1


def test_reconstruction(sketch, vectors):
    data = vectors('reconstruction')
    pixels = F.interpolate(data['mask'].float()[:, None], (64, 64))
    loss = sketch['reconstruction_loss'](data['pred'], data['target'], pixels)
    assert loss.item() == pytest.approx(data['total_loss'].item(), rel=1e-5)


def test_contrast(sketch, vectors):
    data = vectors('contrast')
    loss = sketch['contrastive_loss'](data['query'], data['key'], data['queue'].T)
    assert data['temperature'] == 0.2
    assert loss.item() == pytest.approx(data['loss'].item(), rel=1e-5)


def test_matched_cells(sketch, vectors):
    data = vectors('position_match')
    cells = sketch['matched_cells'](data['query_location'], data['key_location'], 20)
    for part, index in zip(('query', 'key'), cells, strict=True):
        matched = data[f'{part}_feature'][torch.arange(3)[:, None], index]
        torch.testing.assert_close(matched, data[f'matched_{part}'], rtol=0, atol=0)


def test_assignment(sketch, vectors):
    data = vectors('local_assignment')
    loss = sketch['assignment_loss'](
        data['student_1'].mT,
        data['teacher_1'].mT,
        data['center_before'].flatten(),
        data['teacher_temperature'].item(),
    )
    assert loss.item() == pytest.approx(data['loss_1'].item(), rel=1e-5)


def test_hidden_share_and_places(sketch):
    views, places = sketch['crop'](torch.rand(6, 3, 64, 64))
    hidden, mask, pixels = sketch['hide'](views)
    assert mask.sum((1, 2, 3)).tolist() == [10.0] * 6  # of 16
    shown = pixels.expand_as(views) == 0
    torch.testing.assert_close(hidden[shown], views[shown])
    assert places.shape == (6, 16, 2) and 0 < places.min() and places.max() < 64
