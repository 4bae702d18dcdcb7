# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The inferencers of mmpretrain, mmseg and mmdet on our configs."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmpretrain import FeatureExtractor, ImageClassificationInferencer, get_model

from cmid_mm.configs import build_model
from cmid_mm.images import find_images
from cmid_mm.inference import Inferencer
from tests.toy import toy_config

from .trained_tasks import dump


@pytest.fixture
def case(trained, data, tmp_path):
    """Config file, checkpoint, images, and what our own inferencer says of them."""

    def get(task: str):
        cfg, checkpoint = trained(task)
        images = find_images(data / task / 'test')[:3]
        if task == 'change':
            images = [(path, Path(str(path).replace('/A/', '/B/'))) for path in images]
        inferencer = Inferencer(cfg, checkpoint)
        inferencer.task.score_threshold = 0.0
        expected = inferencer(images)
        return str(dump(cfg, tmp_path / 'config.py')), str(checkpoint), images, expected

    return get


def arrays(images):
    return [cv2.imread(str(path)) for path in images]


def test_classification(case, tmp_path):
    config, checkpoint, images, expected = case('scene')
    inferencer = ImageClassificationInferencer(config, pretrained=checkpoint)
    shown = tmp_path / 'shown'
    from_files = inferencer([str(p) for p in images], batch_size=2, show_dir=shown)
    assert len(list(shown.iterdir())) == 3
    for results in (from_files, inferencer(arrays(images)), inferencer(images)):
        for found, own in zip(results, expected, strict=True):
            np.testing.assert_allclose(found['pred_scores'], own.scores, atol=1e-5)
            assert found['pred_label'] == own.scores.argmax()


def test_more_bands_and_bits_than_opencv_reads(trained, tmp_path):
    cfg, _ = trained('scene')
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.in_channels = 5
    cfg.data_preprocessor = dict(mean=[100.0] * 5, std=[50.0] * 5, num_classes=8)
    cfg.model.pop('data_preprocessor', None)
    load = dict(type='LoadImagery', num_bands=5, value_range=(0, 3000))
    cfg.test_dataloader.dataset.pipeline = [load, dict(type='PackInputs')]
    values = np.random.default_rng(0).integers(0, 3000, (5, 64, 64)).astype(np.uint16)
    image = tmp_path / 'a.tif'
    with rasterio.open(
        image, 'w', driver='GTiff', height=64, width=64, count=5, dtype='uint16'
    ) as file:
        file.write(values)
    torch.manual_seed(0)
    checkpoint = tmp_path / 'a.pth'
    torch.save(dict(state_dict=build_model(cfg).state_dict()), checkpoint)
    (own,) = Inferencer(cfg, checkpoint)(image)
    inferencer = ImageClassificationInferencer(cfg, pretrained=str(checkpoint))
    for given in (str(image), values.transpose(1, 2, 0)):
        (found,) = inferencer(given)
        np.testing.assert_allclose(found['pred_scores'], own.scores, atol=1e-5)


def test_other_packages_load_as_they_did(trained, data):
    cfg, checkpoint = trained('scene')
    cfg = copy.deepcopy(cfg)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile')
    image = find_images(data / 'scene' / 'test')[0]
    inferencer = ImageClassificationInferencer(cfg, pretrained=str(checkpoint))
    assert inferencer.loads_itself is None
    (found,) = inferencer(str(image))
    (own,) = Inferencer(cfg, checkpoint)(image)
    np.testing.assert_allclose(found['pred_scores'], own.scores, atol=1e-5)


def test_segmentation(case, tmp_path):
    from mmseg.apis import MMSegInferencer

    config, checkpoint, images, expected = case('segmentation')
    inferencer = MMSegInferencer(config, checkpoint, device='cpu', show_progress=False)
    from_files = inferencer([str(p) for p in images], out_dir=str(tmp_path / 'out'))
    assert len(list((tmp_path / 'out' / 'vis').iterdir())) == 3
    for results in (from_files, inferencer(arrays(images), batch_size=3)):
        for found, own in zip(results['predictions'], expected, strict=True):
            assert (found == own.mask).all() and len(np.unique(found)) > 1


def test_change_detection(case):
    from mmseg.apis import MMSegInferencer

    config, checkpoint, pairs, expected = case('change')
    inferencer = MMSegInferencer(config, checkpoint, device='cpu', show_progress=False)
    for found, own in zip(inferencer(pairs)['predictions'], expected, strict=True):
        assert (found == own.mask).all()


def test_oriented_detection(case, tmp_path):
    from mmdet.apis import DetInferencer

    config, checkpoint, images, expected = case('detection')
    images, expected = images[:1], expected[:1]
    inferencer = DetInferencer(config, checkpoint, device='cpu', scope='mmrotate')
    from_files = inferencer([str(images[0])], out_dir=str(tmp_path / 'out'))
    assert len(list((tmp_path / 'out' / 'vis').iterdir())) == 1
    for results in (from_files, inferencer(arrays(images))):
        for found, own in zip(results['predictions'], expected, strict=True):
            assert len(found['bboxes'][0]) == 5
            np.testing.assert_allclose(
                np.sort(found['scores']), np.sort(own.scores), atol=1e-5
            )


def test_features_of_a_task_and_of_a_pretraining(case, tmp_path):
    config, checkpoint, images, _ = case('scene')
    extractor = FeatureExtractor(config, pretrained=checkpoint)
    (maps,) = extractor(str(images[0]), stage='backbone')
    assert maps[-1].shape == (512, 3, 3)

    model = toy_config()
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            data_preprocessor=model.pop('data_preprocessor'),
            model=model,
            train_dataloader=dict(
                dataset=dict(
                    type='ImageryDataset',
                    pipeline=[dict(type='LoadImagery', size=64), dict(type='ViewPair')],
                )
            ),
        )
    )
    extractor = FeatureExtractor(cfg, pretrained=False)
    ((found,),) = extractor(str(images[0]))
    pixels = extractor.pipeline(str(images[0]))['inputs'][None]
    expected = extractor.model.extract_feats(pixels)[0]
    assert found.shape == (64, 2, 2)
    torch.testing.assert_close(found.mean((1, 2)), expected)


@pytest.mark.parametrize(
    'name', ['cmid/cmid_r18_scenes', 'baselines/mae_vit-tiny_scenes']
)
def test_models_are_built_by_the_file_of_their_config(name):
    model = get_model(str(Path(__file__).parents[2] / 'configs' / f'{name}.py'))
    assert model.extract_feat(torch.rand(1, 3, 96, 96))[0].ndim in (3, 4)
