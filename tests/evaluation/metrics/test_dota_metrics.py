# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import multiprocessing
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

pytest.importorskip('mmrotate')
pytest.importorskip('mmcv.ops')

from mmrotate.evaluation.functional import mean_ap

from cmid_mm.evaluation.metrics.dota_metrics import DOTASubmission, InProcessDOTAMetric


def prediction(
    image: str, boxes: list[list[float]], label: int, scores: list[float], truth=None
) -> dict:
    known = InstanceData()
    if truth is not None:
        known.bboxes = torch.tensor(truth).reshape(-1, 5)
        known.labels = torch.full((len(truth),), label)
    none = InstanceData(bboxes=torch.zeros(0, 5), labels=torch.zeros(0).long())
    return dict(
        img_id=image,
        gt_instances=known.to_dict(),
        ignored_instances=none.to_dict(),
        pred_instances=dict(
            bboxes=torch.tensor(boxes),
            scores=torch.tensor(scores),
            labels=torch.full((len(boxes),), label),
        ),
    )


def test_metric_of_a_hand_made_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_):
        raise AssertionError('a process was started')

    monkeypatch.setattr(multiprocessing.get_context('spawn'), 'Pool', no_process)
    metric = InProcessDOTAMetric(iou_thrs=[0.3, 0.5])
    metric.dataset_meta = dict(classes=('plane', 'ship'))
    ship = [50.0, 50, 40, 20, 0.5]
    # Found with an IoU of 1 and, by a shift of half its length, of 1/3; and once wrong.
    shifted = [100.0, 50, 40, 20, 0.0]
    almost = [120.0, 50, 40, 20, 0.0]
    metric.process(
        None,
        [
            prediction(
                'P1', [ship, almost, [9.0, 9, 4, 4, 0]], 1, [0.9, 0.8, 0.7],
                truth=[ship, shifted],
            )
        ],
    )  # fmt: skip
    found = metric.evaluate(1)
    # Of the 11 recalls 0, 0.1, ... 1 all have precision 1 at IoU 0.3, and 6 at 0.5.
    assert found['dota/AP30'] == pytest.approx(1.0)
    assert found['dota/AP50'] == pytest.approx(6 / 11, abs=1e-3)
    assert found['dota/mAP'] == pytest.approx((1 + 6 / 11) / 2)
    assert mean_ap.get_context is multiprocessing.get_context


def test_submission_merges_tiles(tmp_path: Path) -> None:
    metric = DOTASubmission(str(tmp_path / 'sub'))
    metric.dataset_meta = dict(classes=('plane', 'ship'))
    # One ship in the overlap of two tiles, and one more.
    metric.process(
        None,
        [
            prediction('P1__1024__0___0', [[900.0, 50, 40, 20, 0]], 1, [0.9]),
            prediction(
                'P1__1024__824___0',
                [[76.0, 50, 40, 20, 0], [500.0, 60, 40, 20, 0]],
                1,
                [0.8, 0.7],
            ),
        ],
    )
    metric.evaluate(2)
    with zipfile.ZipFile(tmp_path / 'sub' / 'sub.zip') as archive:
        assert sorted(archive.namelist()) == ['Task1_plane.txt', 'Task1_ship.txt']
        assert archive.read('Task1_plane.txt') == b''
        lines = archive.read('Task1_ship.txt').decode().splitlines()
    assert len(lines) == 2
    first, second = (line.split() for line in lines)
    assert first[:2] == ['P1', '0.9']
    assert {tuple(first[i : i + 2]) for i in (2, 4, 6, 8)} == {
        ('880.00', '40.00'),
        ('920.00', '40.00'),
        ('920.00', '60.00'),
        ('880.00', '60.00'),
    }
    assert second[1] == '0.7'
    assert np.mean([float(x) for x in second[2::2]]) == 1324


def test_submission_refuses_early(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match='name another folder'):
        DOTASubmission(str(tmp_path))
    metric = DOTASubmission(str(tmp_path / 'sub'))
    metric.dataset_meta = dict(classes=('plane',))
    for name in ('P0001', 'P1__64__0___0__512__4___8'):
        with pytest.raises(ValueError, match=f'image {name} is no tile'):
            metric.process(None, [prediction(name, [[1.0, 1, 1, 1, 0]], 0, [0.9])])
