# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

pytest.importorskip('mmcv._ext')

from mmcv.ops import batched_nms  # noqa: E402

from cmid_mm.inference import suppression  # noqa: E402
from cmid_mm.inference.suppression import suppress  # noqa: E402


def scattered(count, side, oriented):
    """Boxes, several of which overlap, with scores and one of two classes."""
    centres = torch.rand(count, 2) * side
    sizes = torch.rand(count, 2) * 30 + 10
    if oriented:
        boxes = torch.cat((centres, sizes, torch.rand(count, 1) * 3), 1)
    else:
        boxes = torch.cat((centres, centres + sizes), 1)
    return boxes, torch.rand(count), torch.randint(0, 2, (count,))


@pytest.mark.parametrize('oriented', [True, False])
@pytest.mark.parametrize('together', [1, 50, 5000])
def test_groups_give_what_all_together_give(oriented, together, monkeypatch):
    monkeypatch.setattr(suppression, '_TOGETHER', together)
    boxes, scores, labels = scattered(300, 600, oriented)
    kind = 'nms_rotated' if oriented else 'nms'
    nms = dict(type=kind, iou_threshold=0.1)
    _, expected = batched_nms(boxes, scores, labels, dict(nms))
    kept, kept_scores, kept_labels = suppress(boxes, scores, labels, nms)
    assert 100 < len(kept) == len(expected) < 295
    order = kept_scores.argsort(descending=True)
    assert torch.equal(kept[order], boxes[expected])
    assert torch.equal(kept_scores[order], scores[expected])
    assert torch.equal(kept_labels[order], labels[expected])


def test_far_boxes_are_not_compared(monkeypatch):
    sizes = []

    def counted(boxes, *args):
        sizes.append(len(boxes))
        return batched_nms(boxes, *args)

    monkeypatch.setattr(suppression, '_TOGETHER', 100)
    monkeypatch.setattr(suppression, 'batched_nms', counted)
    boxes, scores, labels = scattered(3000, 5000, True)
    suppress(boxes, scores, labels, dict(type='nms_rotated', iou_threshold=0.1))
    assert sum(sizes) == 3000 and max(sizes) <= 100
    assert np.mean(sizes) > 50


def test_no_box():
    boxes, scores, labels = scattered(0, 10, True)
    found = suppress(boxes, scores, labels, dict(type='nms_rotated', iou_threshold=0.1))
    assert [len(each) for each in found] == [0, 0, 0]
