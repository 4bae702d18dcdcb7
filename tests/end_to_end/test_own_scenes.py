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
from cmid_mm.configs import load_config
from cmid_mm.inference import Inferencer
from tests.datasets.windowed.ground import (
    classes_of,
    write_polygons,
    write_raster,
    write_scenes,
)

CONFIGS = Path(__file__).parents[2] / 'configs'
CONFIG = CONFIGS / 'segmentation/upernet_r18_windows.py'
PARTS = 'train', 'val', 'test'
WINDOWS_OF_64 = [
    f'{part}_dataloader.{setting}'
    for part in PARTS
    for setting in ('dataset.window=64', 'num_workers=0', 'persistent_workers=False')
]


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
        *WINDOWS_OF_64,
        'train_dataloader.batch_size=4',
        'train_cfg.max_iters=4',
        'param_scheduler.0.end=4',
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


@pytest.mark.parametrize(
    ('name', 'settings', 'checkpoint', 'metric'),
    [
        (
            'change_detection/bit_r18_windows.py',
            [
                'model.data_preprocessor.size=(64,64)',
                'model.backbone.base_channels=8',
                'model.backbone.stem_channels=8',
                'model.decode_head.in_channels=32',
                'train_cfg.max_iters=2',
                'param_scheduler.0.end=2',
                'train_cfg.val_interval=2',
                'default_hooks.checkpoint.interval=2',
                'default_hooks.checkpoint.save_best=OA',  # F1 may be nan
            ],
            'iter_2.pth',
            'OA',
        ),
        (
            'detection/oriented-rcnn_r18_windows.py',
            [
                *(f'{part}_dataloader.dataset.overlap=16' for part in PARTS),
                'model.backbone.base_channels=8',
                'model.backbone.stem_channels=8',
                'model.neck.in_channels=[8,16,32]',
                'train_cfg.max_epochs=1',
                'train_cfg.val_interval=1',
            ],
            'epoch_1.pth',
            'dota/mAP',
        ),
    ],
    ids=['change', 'boxes'],
)
def test_changes_and_boxes_from_scenes(
    name, settings, checkpoint, metric, run, tmp_path
):
    """They train, validate and test by the areas, and predict in the same windows."""
    if name.startswith('detection'):
        pytest.importorskip('mmrotate')
    for part in PARTS:
        dataset = load_config(str(CONFIGS / name))[f'{part}_dataloader'].dataset
        write_scenes(tmp_path, dataset, size=96)
    write_polygons(tmp_path / 'split' / 'val.gpkg', [(0, 0, 96, 96)])
    write_polygons(tmp_path / 'split' / 'test.gpkg', [(96, 0, 192, 96)])
    work = tmp_path / 'work'
    arguments = '--data-root', tmp_path, '--work-dir', work
    options = '--cfg-options', *WINDOWS_OF_64, *settings
    assert run('train.py', CONFIGS / name, *arguments, *options) is None
    assert len(list(work.glob('best_*.pth'))) == 1  # chosen by a validation
    pictures, scores = tmp_path / 'pictures', tmp_path / 'scores.json'
    tested = 'test.py', CONFIGS / name, work / checkpoint, '--show-dir', pictures
    assert run(*tested, '--tta', '--json', scores, *arguments, *options) is None
    assert 0 <= json.loads(scores.read_text())['metrics'][metric] <= 100
    names = [path.stem for path in pictures.iterdir()]
    assert sorted(names) == [f'1_{top}_{left}' for top in (0, 32) for left in (0, 32)]
    task = Inferencer(work / Path(name).name, work / checkpoint).task
    assert task.window == 64


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
        ((*where, *labels, '--train-list', 'a.txt'), '--test LIST.txt'),
    ):
        assert message in run(*probe, *wrong)
