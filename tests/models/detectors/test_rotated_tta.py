# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor

pytest.importorskip('mmrotate')
pytest.importorskip('mmcv.ops')

from mmdet.structures import DetDataSample
from mmrotate.structures.bbox import RotatedBoxes

from cmid_mm.models.detectors.rotated_tta import RotatedTTAModel

SHIP = [20.0, 30.0, 16.0, 6.0, 0.4]


class Detector(BaseModel):
    def forward(self, *args):
        raise NotImplementedError


def view(boxes: list[list[float]], scores: list[float], labels: list[int], **meta):
    sample = DetDataSample(metainfo=dict(ori_shape=(80, 100), **meta))
    sample.pred_instances = InstanceData(
        bboxes=RotatedBoxes(torch.tensor(boxes).reshape(-1, 5)),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return sample


def merge(*views, **kwargs) -> InstanceData:
    model = RotatedTTAModel(module=Detector(), **kwargs)
    return model.merge_preds([list(views)])[0].pred_instances


def corners(boxes: Tensor) -> Tensor:
    quads = RotatedBoxes(boxes).convert_to('qbox').tensor.reshape(-1, 4, 2)
    return torch.stack([quad[quad[:, 0].argsort()] for quad in quads])


@pytest.mark.parametrize(
    ('direction', 'mirrored'),
    [
        ('horizontal', [100 - 20.0, 30.0, 16.0, 6.0, -0.4]),
        ('vertical', [20.0, 80 - 30.0, 16.0, 6.0, -0.4]),
        ('diagonal', [80.0, 50.0, 16.0, 6.0, 0.4]),
    ],
)
def test_mirrored_boxes_are_mirrored_back_and_merged(
    direction: str, mirrored: list[float]
) -> None:
    found = merge(
        view([SHIP], [0.6], [1]),
        view([mirrored], [0.9], [1], flip=True, flip_direction=direction),
    )
    assert found.scores.tolist() == pytest.approx([0.9])
    expected = corners(torch.tensor([SHIP]))
    assert torch.allclose(corners(found.bboxes.tensor), expected, atol=1e-4)


def test_other_classes_and_places_stay() -> None:
    far = [70.0, 60.0, 16.0, 6.0, 0.0]
    found = merge(view([SHIP, SHIP], [0.6, 0.5], [0, 1]), view([far], [0.7], [0]))
    assert found.scores.tolist() == pytest.approx([0.7, 0.6, 0.5])
    assert found.labels.tolist() == [0, 0, 1]
    limited = merge(view([SHIP, far], [0.6, 0.7], [0, 0]), max_per_img=1)
    assert limited.scores.tolist() == pytest.approx([0.7])


def test_no_box() -> None:
    found = merge(view([], [], []), view([], [], []))
    assert len(found) == 0
    assert found.bboxes.tensor.shape == (0, 5)
