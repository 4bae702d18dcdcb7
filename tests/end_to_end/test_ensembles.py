# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Several checkpoints and several views of an image, in all four tasks."""

import copy

import cv2
import numpy as np
import pytest
import torch

from cmid_mm.checkpoints import read_checkpoint
from cmid_mm.images import load_image
from cmid_mm.images.writing import write_image
from cmid_mm.inference import Inferencer

from .trained_tasks import dump

FOLDERS = {
    'scene': 'scene/test',
    'segmentation': 'segmentation/test/img',
    'detection': 'detection/test/images',
    'change': 'change/test',
}


@pytest.fixture(scope='module')
def other(trained, data):
    """A second checkpoint, of other weights, of a task."""

    def get(task):
        cfg, checkpoint = trained(task)
        path = data / f'{task}_other.pth'
        if not path.exists():
            torch.manual_seed(1)
            weights = read_checkpoint(checkpoint)['state_dict']
            last = {
                name: torch.randn_like(weight)
                for name, weight in weights.items()
                if name.split('.')[-2] in ('fc', 'fc_cls', 'conv_seg')
            }
            torch.save(dict(state_dict=weights | last, meta={}), path)
        return path

    return get


def first_image(inferencer, data, task):
    return inferencer.task.find([data / FOLDERS[task]])[0]


def probabilities(inferencer, image):
    """What a segmentor or classifier says of an image."""
    task = inferencer.task
    (prediction,) = task.forward([task.sample(task.open(image)).data])
    if task.name == 'classification':
        return prediction.pred_score
    return prediction.seg_logits.data.softmax(0)


@pytest.mark.parametrize('task', ['scene', 'segmentation', 'change'])
def test_several_checkpoints_give_the_mean(task, trained, other, data):
    cfg, checkpoint = trained(task)
    both = Inferencer(cfg, [checkpoint, other(task)])
    image = first_image(both, data, task)
    each = [
        probabilities(Inferencer(cfg, path), image)
        for path in (checkpoint, other(task))
    ]
    assert (each[0] - each[1]).abs().max() > 0.05
    mean = (each[0] + each[1]) / 2
    torch.testing.assert_close(probabilities(both, image), mean, atol=1e-5, rtol=0)
    if task != 'scene':
        (result,) = both([image])
        same = result.mask == mean.argmax(0).numpy()
        assert same.mean() > 0.999


@pytest.mark.parametrize('task', ['scene', 'segmentation', 'change'])
def test_views_give_the_mean_of_the_turned_back(task, trained, data, tmp_path):
    cfg, checkpoint = trained(task)
    plain = Inferencer(cfg, checkpoint)
    image = first_image(plain, data, task)
    pixels = [load_image(str(each)) for each in np.atleast_1d(image)]
    # Not square, so that height and width cannot be taken for each other.
    pixels = [each[:64] for each in pixels]

    def written(turn):
        paths = []
        for number, each in enumerate(pixels):
            paths.append(tmp_path / f'{number}.png')
            write_image(paths[-1], np.ascontiguousarray(turn(each)))
        return tuple(paths) if len(paths) > 1 else paths[0]

    expected = []
    for mirrored in (False, True):
        for turns in range(4):

            def turn(array, mirrored=mirrored, turns=turns):
                return np.rot90(array[:, ::-1] if mirrored else array, turns)

            found = probabilities(plain, written(turn)).numpy()
            if found.ndim == 3:
                found = np.rot90(found, -turns, (1, 2))
                found = found[..., ::-1] if mirrored else found
            expected.append(found)
    views = Inferencer(cfg, checkpoint, views='all')
    found = probabilities(views, written(lambda array: array)).numpy()
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=1e-4)
    assert np.abs(found - expected[0]).max() > 1e-3


def test_mirrored_views_are_the_tta_of_the_test_tool(trained, data):
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner
    from mmseg.registry import MODELS

    cfg, checkpoint = trained('segmentation')
    cfg = copy.deepcopy(cfg)
    cfg.tta_model.module = cfg.model
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(
            dict(
                cfg.test_dataloader,
                batch_size=1,
                num_workers=0,
                persistent_workers=False,
            )
        )
        model = MODELS.build(cfg.tta_model).eval()
    model.module.load_state_dict(torch.load(checkpoint)['state_dict'])
    with torch.no_grad():
        sample = model.test_step(next(iter(loader)))[0]
    (result,) = Inferencer(trained('segmentation')[0], checkpoint, views='mirrored')(
        [sample.img_path]
    )
    assert (result.mask == sample.pred_sem_seg.data[0].numpy()).mean() > 0.999


def test_boxes_of_all_are_merged(trained, other, data):
    cfg, checkpoint = trained('detection')
    plain = Inferencer(cfg, checkpoint)
    image = first_image(plain, data, 'detection')
    plain.task.score_threshold = 0.0
    (alone,) = plain([image])
    # The same checkpoint twice finds nothing new, and each object once.
    twice = Inferencer(cfg, [checkpoint, checkpoint])
    twice.task.score_threshold = 0.0
    (same,) = twice([image])
    assert len(same.scores) == len(alone.scores) > 0
    np.testing.assert_allclose(same.corners, alone.corners)
    # Another one brings its own.
    more = Inferencer(cfg, [checkpoint, other('detection')])
    more.task.score_threshold = 0.0
    (both,) = more([image])
    assert both.scores.max() >= alone.scores.max()
    assert len(both.scores) > len(alone.scores)


def test_boxes_of_a_turned_image_are_turned_back(trained, data, monkeypatch):
    """A detector that finds the bright bar, whichever way it lies."""
    from mmengine.structures import InstanceData

    cfg, checkpoint = trained('detection')
    inferencer = Inferencer(cfg, checkpoint, views='all')
    seen = []

    def test_step(batch):
        (sample,), (pixels,) = batch['data_samples'], batch['inputs']
        rows, columns = np.nonzero(pixels[0].numpy() == 250)
        height, width = sample.ori_shape
        y, x = pixels.shape[1] / height, pixels.shape[2] / width
        seen.append((height, width))
        left, right = columns.min() / x, (columns.max() + 1) / x
        top, bottom = rows.min() / y, (rows.max() + 1) / y
        centre = (left + right) / 2, (top + bottom) / 2
        box = [*centre, right - left, bottom - top, 0.0]
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([box], dtype=torch.float32),
            scores=torch.tensor([0.8]),
            labels=torch.tensor([1]),
        )
        return [sample]

    monkeypatch.setattr(inferencer.model, 'test_step', test_step)
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[10:18, 20:60] = 250
    write_image(data / 'bar.png', pixels)
    (result,) = inferencer([data / 'bar.png'])
    assert len(seen) == 8 and len(set(seen)) == 2
    assert len(result.scores) == 1
    corners = result.corners.reshape(4, 2)
    np.testing.assert_allclose(corners.min(0), [20, 10], atol=0.6)
    np.testing.assert_allclose(corners.max(0), [60, 18], atol=0.6)


def test_from_the_command_line(run, trained, other, data, tmp_path):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    both = [checkpoint, other('segmentation')]
    inferencer = Inferencer(cfg, both, views='mirrored')
    image = first_image(inferencer, data, 'segmentation')
    more = ('--ensemble', both[1], '--tta', 'mirrored')
    assert run('predict.py', config, checkpoint, image, '--out', out, *more) is None
    mask = cv2.imread(str(out / f'{image.stem}.png'), cv2.IMREAD_UNCHANGED)
    assert (mask == inferencer(image)[0].mask).all()
    assert (mask != Inferencer(cfg, checkpoint)(image)[0].mask).any()


def test_half_precision_needs_a_gpu(run, trained, data, tmp_path):
    cfg, checkpoint = trained('segmentation')
    config, out = dump(cfg, tmp_path / 'config.py'), tmp_path / 'out'
    images = data / FOLDERS['segmentation']
    error = run('predict.py', config, checkpoint, images, '--out', out, '--half')
    assert 'half precision is for GPUs' in error and not out.exists()
    with pytest.raises(ValueError, match='none of none, mirrored, all'):
        Inferencer(cfg, checkpoint, views='every')


def test_a_second_checkpoint_of_another_model_is_refused(trained):
    cfg, checkpoint = trained('segmentation')
    with pytest.raises(Exception, match=r'scene\.pth.* is no checkpoint of the model'):
        Inferencer(cfg, [checkpoint, trained('scene')[1]])
