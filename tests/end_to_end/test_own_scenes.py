# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""From scenes and a layer of labels to a tested network, by the commands."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmseg')
pytest.importorskip('geopandas')

from cmid_mm.checkpoints import read_checkpoint
from cmid_mm.inference import Inferencer
from tests.datasets.windowed.ground import classes_of, write_polygons, write_raster

CONFIG = Path(__file__).parents[2] / 'configs' / 'segmentation/upernet_r18_windows.py'


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """Two scenes whose colours say the class, and the polygons of two classes."""
    rng = np.random.default_rng(0)
    boxes = {
        (left, top, left + 40, top + 28): int(rng.integers(1, 3))
        for left in range(8, 300, 48)
        for top in range(4, 160, 32)
    }
    mask = classes_of(boxes, 160, 320)
    colours = np.array([[60, 60, 60], [220, 200, 40], [20, 120, 200]])[mask]
    image = colours + rng.integers(-10, 10, colours.shape)
    for name, left in (('west', 0), ('east', 160)):
        part = image[:, left : left + 160].transpose(2, 0, 1).astype(np.uint8)
        path = tmp_path / 'images' / f'{name}.tif'
        write_raster(path, part, left, photometric='RGB')
    names = ['field' if value == 1 else 'forest' for value in boxes.values()]
    write_polygons(
        tmp_path / 'labels.gpkg', list(boxes), 'EPSG:4326', **{'class': names}
    )
    return tmp_path


def test_from_scenes_and_polygons_to_scores(ground, run, tmp_path, capsys):
    labels = '--labels', ground / 'labels.gpkg', '--field', 'class'
    options = *labels, '--background', 'other', '--out', ground / 'split'
    sides = '--block', '80px', '--guard', '8px', '--train-ratio', 0.6
    assert run('split_dataset.py', ground / 'images', *options, *sides) is None
    said = capsys.readouterr().out
    assert 'windows of up to 72 pixels' in said

    small = [
        'model.backbone.base_channels=8',
        'model.backbone.stem_channels=8',
        'model.decode_head.in_channels=[8,16,32,64]',
        'model.decode_head.channels=16',
        'model.auxiliary_head.in_channels=32',
        'model.auxiliary_head.channels=16',
        'model.data_preprocessor.size=(64,64)',
        *(f'{s}_dataloader.dataset.window=64' for s in ('train', 'val', 'test')),
        *(f'{s}_dataloader.num_workers=0' for s in ('train', 'val', 'test')),
        *(f'{s}_dataloader.persistent_workers=False' for s in ('train', 'val', 'test')),
        'train_dataloader.batch_size=4',
        'train_cfg.max_iters=4',
        'train_cfg.val_interval=4',
        'default_hooks.checkpoint.interval=4',
    ]
    work = tmp_path / 'work'
    arguments = '--data-root', ground, '--work-dir', work, '--cfg-options', *small
    assert run('train.py', CONFIG, *arguments) is None
    pictures = tmp_path / 'pictures'
    checkpoint = work / 'iter_4.pth'
    tested = 'test.py', CONFIG, checkpoint, '--show-dir', pictures, '--tta'
    assert run(*tested, *arguments) is None
    (result,) = work.glob('*/*.json')
    assert {'mIoU', 'mFscore', 'aAcc'} < json.loads(result.read_text()).keys()
    # A picture for each window of the test, and the classes for predictions.
    names = [path.stem for path in pictures.iterdir()]
    # To cover a block of 72 to 76 pixels takes four windows of 64.
    assert len(names) == 4 * int(re.findall(r'(\d+) blocks', said)[1])
    assert all(re.fullmatch(r'(west|east)_\d+_\d+', name) for name in names)
    meta = read_checkpoint(checkpoint)['meta']['dataset_meta']
    assert tuple(meta['classes']) == ('other', 'field', 'forest')
    # Maps are made in windows as large as those of the training.
    assert Inferencer(work / CONFIG.name, checkpoint).task.window == 64


def test_frozen_features_of_each_pixel(ground, run, tmp_path, capsys):
    """On the scenes by polygons, and on tiles with index masks."""
    for name, left in (('west', 0), ('east', 160)):
        box = left, 0, left + 160, 160
        write_polygons(ground / f'{name}.gpkg', [box])
    result = tmp_path / 'dense.json'
    probe = 'evaluate_features.py', 'configs/cmid/cmid_r18_demo.py', 'random', '--dense'
    options = '--stages', 0, 1, '--window', 64, '--json', result
    areas = '--train-area', 'west.gpkg', '--test-area', 'east.gpkg'
    labels = '--labels', 'labels.gpkg', '--field', 'class', '--background', 'other'
    where = '--train', 'images', '--data-root', ground
    assert run(*probe, *where, *labels, *areas, *options) is None
    by_polygons = json.loads(result.read_text())
    assert by_polygons['dense_mIoU'] > 60
    assert set(by_polygons['IoU']) == {'other', 'field', 'forest'}
    assert by_polygons['test_scenes'] == 1
    assert by_polygons['stages'] == [0, 1]
    assert (
        'stages 0 1, normalization pretraining, head linear' in capsys.readouterr().out
    )

    tiles = tmp_path / 'tiles'
    cut = '--window', 64, '--out', tiles
    scenes = ground / 'images', '--labels', ground / 'labels.gpkg'
    assert run('prepare_data.py', 'tiles', *scenes, *labels[2:], *cut) is None
    where = '--data-root', tiles, '--train', 'images/west*', '--test', 'images/east*'
    labels = '--labels', 'masks/{stem}.tif', '--classes', 'other', 'field', 'forest'
    assert run(*probe, *where, *labels, *options, '--head', 'conv') is None
    assert json.loads(result.read_text())['test_windows'] == 9

    for wrong, message in (
        (('--train', 'images'), '--dense needs the labels'),
        ((*where[2:4], *labels), 'give --test IMAGES or --test-area'),
        ((*where, *labels, '--train-list', 'a.txt'), '--train LIST.txt'),
    ):
        assert message in run(*probe, *wrong)
