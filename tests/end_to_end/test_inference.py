# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Browsing, testing and predicting in all four tasks, on the demo configs."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rasterio.transform import from_origin

from cmid_mm.checkpoints import read_checkpoint, stored_images
from cmid_mm.configs import build_model
from cmid_mm.demo_scenes import make_scene
from cmid_mm.images.writing import write_image
from cmid_mm.inference import Inferencer

from .trained_tasks import TASKS, dump, files


def test_step(cfg, checkpoint):
    """What the test loop predicts for the images of the test set."""
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(checkpoint)['state_dict'])
    one = dict(batch_size=1, num_workers=0, persistent_workers=False)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(dict(cfg.test_dataloader, **one))
    with torch.no_grad():
        return [model.test_step(batch)[0] for batch in loader]


test_step.__test__ = False


@pytest.mark.parametrize('task', TASKS)
def test_prediction_is_that_of_the_test_loop(task, trained):
    cfg, checkpoint = trained(task)
    expected = test_step(cfg, checkpoint)
    inferencer = Inferencer(cfg, checkpoint)
    inferencer.task.score_threshold = 0.0
    images = [sample.img_path for sample in expected]
    if task == 'change':
        images = [(path, path.replace('/A/', '/B/')) for path in images]
    results = inferencer(images, batch_size=3)
    assert len(results) == len(expected) == 8
    assert [str(result.image.path) for result in results] == [
        sample.img_path for sample in expected
    ]
    found = set()
    for result, sample in zip(results, expected, strict=True):
        if task == 'scene':
            np.testing.assert_allclose(result.scores, sample.pred_score, atol=1e-5)
            found.add(round(float(result.scores.max()), 4))
        elif task == 'detection':
            instances = sample.pred_instances
            assert len(result.scores) == len(instances) > 0
            np.testing.assert_allclose(
                result.scores, instances.scores.sort(descending=True)[0], atol=1e-5
            )
            centres = result.corners.reshape(-1, 4, 2).mean(1)
            order = instances.scores.argsort(descending=True, stable=True)
            np.testing.assert_allclose(
                centres[:5], instances.bboxes[order][:5, :2], atol=0.05
            )
            found |= set(result.labels)
        else:
            same = result.mask == sample.pred_sem_seg.data[0].numpy()
            assert same.mean() > 0.9999  # ties in float32
            found |= set(np.unique(result.mask))
    assert len(found) > 1


@pytest.fixture
def large(tmp_path):
    """A georeferenced raster of 200 x 160 pixels."""
    pixels = make_scene(5, 3, 200).image[:, :160]
    path = tmp_path / 'large.tif'
    place = dict(crs='EPSG:32650', transform=from_origin(5e5, 3e6, 0.5, 0.5))
    size = dict(height=200, width=160, count=3, dtype='uint8')
    with rasterio.open(path, 'w', driver='GTiff', **size, **place) as target:
        target.write(pixels.transpose(2, 0, 1))
    return path


def test_scenes_to_a_table(run, trained, data, tmp_path):
    cfg, checkpoint = trained('scene')
    config = dump(cfg, tmp_path / 'config.py')
    out = tmp_path / 'out'
    folder = data / 'scene' / 'test'
    error = run(
        'predict.py', config, checkpoint, folder, '--out', out, '--probabilities'
    )
    assert '--probabilities is for segmentation and change detection' in error
    assert run('predict.py', config, checkpoint, folder, '--out', out) is None
    rows = list(csv.DictReader((out / 'predictions.csv').open()))
    assert len(rows) == 8
    for row in rows:
        scores = [float(row[key]) for key in row if key.startswith('score')]
        assert scores == sorted(scores, reverse=True) and len(scores) == 5
        relative = Path(row['image']).relative_to(folder).with_suffix('.jpg')
        assert cv2.imread(str(out / relative)) is not None


def test_images_read_otherwise_are_said(trained, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        stored_images, 'print_log', lambda message, *_, **__: said.append(message)
    )
    cfg, checkpoint = trained('scene')
    run = read_checkpoint(checkpoint)
    run['meta']['cfg'] = cfg.pretty_text
    torch.save(run, tmp_path / 'run.pth')
    Inferencer(cfg, tmp_path / 'run.pth')
    assert not said
    changed = cfg.copy()
    changed.test_dataloader.dataset.pipeline[0].nodata = 7
    Inferencer(changed, tmp_path / 'run.pth')
    (message,) = said
    assert 'nodata=None; here they are read with num_bands=3, bands=None' in message
    assert 'nodata=7. If' in message


def test_large_raster_to_a_geotiff(run, trained, large, tmp_path, capsys):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    window = ('--window', 96, '--overlap', 32, '--batch-size', 4)
    assert run('predict.py', config, checkpoint, large, '--out', out, *window) is None
    assert files(out) == {'large.tif', 'large.tif.aux.xml', 'large_overlay.jpg'}
    with rasterio.open(large) as image, rasterio.open(out / 'large.tif') as mask:
        assert (mask.crs, mask.transform) == (image.crs, image.transform)
        assert mask.shape == image.shape
        predicted = mask.read(1)
        assert mask.colormap(1)[1][:3] == (0, 0, 255)  # building, in the config
    # In the middle of a window the mask is that of this window alone.
    with rasterio.open(large) as image:
        pixels = image.read().transpose(1, 2, 0)[:96, :96]
    corner_image = tmp_path / 'corner.png'
    write_image(corner_image, pixels)
    corner = Inferencer(cfg, checkpoint)(corner_image)[0].mask
    assert (predicted[:64, :64] == corner[:64, :64]).all()
    assert len(np.unique(predicted)) > 1
    assert 'wrote the results of 1 image' in capsys.readouterr().out
    again = (config, checkpoint, large, corner_image, '--out', out, *window)
    assert run('predict.py', *again, '--resume') is None
    told = capsys.readouterr().out
    assert 'wrote the results of 1 image' in told
    assert 'skipped 1 image with results in' in told
    largest = ('--probabilities', 'largest', '--probability-bits', 16)
    assert run('predict.py', *again, '--resume', *largest) is None
    assert 'wrote the results of 2 images' in capsys.readouterr().out
    with rasterio.open(out / 'large_prob.tif') as probability:
        assert (probability.count, probability.dtypes[0]) == (1, 'uint16')
        assert probability.shape == predicted.shape


def test_boxes_of_windows_are_merged(run, trained, large, tmp_path):
    cfg, checkpoint = trained('detection')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    options = ('--window', 96, '--overlap', 32, '--score-thr', 0.0)
    assert run('predict.py', config, checkpoint, large, '--out', out, *options) is None
    assert files(out) == {'large.txt', 'large.jpg', 'large.geojson'}
    lines = [line.split() for line in (out / 'large.txt').read_text().splitlines()]
    features = json.loads((out / 'large.geojson').read_text())['features']
    assert len(lines) == len(features) > 0
    corners = np.array([line[:8] for line in lines], float).reshape(-1, 4, 2)
    assert {line[8] for line in lines} <= set(cfg.classes)
    # Boxes lie all over the image, not in the first window alone.
    assert corners[..., 1].max() > 150 and corners[..., 0].max() > 120
    first = np.array(features[0]['geometry']['coordinates'][0][0])
    np.testing.assert_allclose(
        first, [5e5 + corners[0, 0, 0] / 2, 3e6 - corners[0, 0, 1] / 2], atol=0.1
    )


def test_an_object_in_two_windows_is_one(trained, large, monkeypatch):
    from mmengine.structures import InstanceData
    from mmrotate.registry import MODELS  # noqa: F401

    cfg, checkpoint = trained('detection')
    inferencer = Inferencer(cfg, checkpoint)
    # One object at (80, 80), which the second window sees only half of.
    seen = {
        (0, 0): [[80, 80, 20, 10, 0.3]],
        (0, 64): [[16, 80, 18, 10, 0.3]],
        (64, 0): [[80, 16, 20, 9, 0.3]],
    }

    def predict_windows(image, grid, rows, batch_size):
        for window in grid.windows:
            boxes = torch.tensor(seen.get(window[:2], []), dtype=torch.float32)
            boxes = boxes.reshape(-1, 5)
            scores = torch.full((len(boxes),), 0.9 - 0.1 * (window[1] > 0))
            labels = torch.ones(len(boxes), dtype=torch.long)
            found = InstanceData(bboxes=boxes, scores=scores, labels=labels)
            yield window, type('Sample', (), {'pred_instances': found}), None

    monkeypatch.setattr(inferencer.task, 'predict_windows', predict_windows)
    (result,) = inferencer(large, window=96, overlap=32)
    assert len(result.scores) == 1 and result.scores[0] == pytest.approx(0.9)
    centre = result.corners.reshape(4, 2).mean(0)
    np.testing.assert_allclose(centre, [80, 80], atol=1e-4)


def test_pairs(run, trained, data, tmp_path):
    cfg, checkpoint = trained('change')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    folder = data / 'change' / 'test'
    assert run('predict.py', config, checkpoint, folder, '--out', out) is None
    assert len(files(out)) == 16
    masks = list(out.glob('*.png'))
    assert len(masks) == 8
    for mask in masks:
        values = np.unique(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))
        assert set(values) <= {0, 255}
    # The order of the dates matters to the head, and so does their being a pair.
    first, second = folder / 'A' / '000000.png', folder / 'B' / '000000.png'
    inferencer = Inferencer(cfg, checkpoint)
    one, other = inferencer([(first, second), (first, first)])
    assert (one.mask != other.mask).any()
    alone = run('predict.py', config, checkpoint, first, '--out', out)
    assert 'takes two images, two folders' in alone
    small = tmp_path / 'small.png'
    write_image(small, np.zeros((20, 30, 3), np.uint8))
    error = run(
        'predict.py', config, checkpoint, first, small, '--out', tmp_path / 'no'
    )
    assert 'small.png is 30 x 20 pixels' in error
    assert not (tmp_path / 'no').exists()


def test_the_others_go_on(run, trained, data, tmp_path):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    good = sorted((data / 'segmentation/test/img').glob('*.png'))[0]
    broken, absent = tmp_path / 'broken.png', tmp_path / 'absent.png'
    broken.write_bytes(good.read_bytes()[:2000])
    images = (broken, absent, good)
    error = run('predict.py', config, checkpoint, *images, '--out', out)
    assert '2 of 3 images could not be predicted' in error
    assert 'broken.png: truncated' in error and 'absent.png: No such file' in error
    assert {Path(name).name for name in files(out)} == {
        f'{good.stem}.png',
        f'{good.stem}_overlay.jpg',
    }


@pytest.mark.parametrize('tool', ['predict.py', 'test.py'])
def test_checkpoint_of_another_model_is_refused(tool, run, trained, data, tmp_path):
    config = dump(trained('segmentation')[0], tmp_path / 'config.py')
    other = trained('scene')[1]
    end = (data, '--out', tmp_path / 'out') if tool == 'predict.py' else ()
    if tool == 'test.py':
        end = ('--work-dir', tmp_path / 'work')
    error = run(tool, config, other, *end)
    assert 'is no checkpoint of the model in this config' in error
    assert 'decode_head' in error and 'unknown to the model: 2 (head.fc' in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('task', TASKS)
def test_testing_with_pictures_and_metrics(task, run, trained, tmp_path, monkeypatch):
    cfg, checkpoint = trained(task)
    config = dump(cfg, tmp_path / 'config.py')
    shown, result = tmp_path / 'shown', tmp_path / 'metrics.json'
    options = ('--show-dir', shown, '--json', result, '--score-thr', 0.01)
    quiet = ('--cfg-options', 'log_level=ERROR', 'test_dataloader.num_workers=0')
    if task == 'detection':  # starts processes, for minutes
        from mmrotate.evaluation.metrics import dota_metric

        monkeypatch.setattr(dota_metric, 'eval_rbbox_map', lambda *_, **__: (0.5, []))
    work = ('--work-dir', tmp_path / 'work')
    workers = ('test_dataloader.persistent_workers=False',)
    reads = []
    load = torch.load

    def counting_load(path, *args, **kwargs):
        reads.append(path)
        return load(path, *args, **kwargs)

    monkeypatch.setattr(torch, 'load', counting_load)
    assert run('test.py', config, checkpoint, *options, *work, *quiet, *workers) is None
    assert reads == [checkpoint]
    assert json.loads(result.read_text())['metrics']
    pictures = list(shown.rglob('*.jpg'))
    assert len(pictures) == 8
    assert all(cv2.imread(str(picture)).std() > 10 for picture in pictures)


def test_test_time_augmentation(run, trained, tmp_path):
    cfg, checkpoint = trained('segmentation')
    config = dump(cfg, tmp_path / 'config.py')
    metrics = []
    for options in ((), ('--tta',)):
        result = tmp_path / 'metrics.json'
        more = ('--json', result, '--work-dir', tmp_path / 'work')
        shown = ('--show-dir', tmp_path / 'shown', '--cfg-options', 'log_level=ERROR')
        assert run('test.py', config, checkpoint, *options, *more, *shown) is None
        metrics.append(json.loads(result.read_text())['metrics'])
    assert metrics[0]['aAcc'] != metrics[1]['aAcc']
    without = cfg.copy()
    without.pop('tta_pipeline')
    error = run('test.py', dump(without, tmp_path / 'plain.py'), checkpoint, '--tta')
    assert '--tta: the config has no tta_pipeline' in error


@pytest.mark.parametrize('task', TASKS)
def test_browsing(task, run, trained, tmp_path, capsys):
    config = dump(trained(task)[0], tmp_path / 'config.py')
    out = tmp_path / 'pictures'
    for split in ('train', 'test'):
        args = (config, '--out', out / split, '--number', 3, '--split', split)
        assert run('browse_dataset.py', *args) is None
        assert f'wrote 3 pictures to {out / split}' in capsys.readouterr().out
        pictures = list((out / split).glob('*.png'))
        assert len(pictures) == 3
        for picture in pictures:
            assert cv2.imread(str(picture)).std() > 10
