# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import runpy
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS

import cmid_mm
from cmid_mm.datasets.scenes import (
    AID,
    RESISC45,
    EuroSAT,
    SceneDataset,
    UCMerced,
    balanced_part,
    find_scenes,
    split_scenes,
)

SPLITS = Path(cmid_mm.__file__).parent / 'preparation' / 'splits'
TOOL = Path(__file__).parents[2] / 'tools' / 'split_dataset.py'


@pytest.fixture
def scenes(tmp_path):
    """Ten images each of three classes, and lists of 8:2."""
    names = []
    for name in ('beach', 'forest', 'river'):
        (tmp_path / name).mkdir()
        for index in range(10):
            file = tmp_path / name / f'{index}.png'
            cv2.imwrite(str(file), np.full((12, 10, 3), 5 * index, np.uint8))
            names.append(f'{name}/{file.name}')
    for part, members in zip(('train', 'test'), split_scenes(names, 0.8), strict=True):
        (tmp_path / f'{part}.txt').write_text('\n'.join(members))
    return tmp_path


def paths(dataset: SceneDataset) -> list[str]:
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


class TestSceneDataset:
    def test_labels_are_sorted_folders(self, scenes):
        dataset = SceneDataset(str(scenes))
        assert dataset.CLASSES == ('beach', 'forest', 'river')
        assert dataset.get_gt_labels().tolist() == [0] * 10 + [1] * 10 + [2] * 10
        assert paths(dataset)[10] == str(scenes / 'forest' / '0.png')

    def test_list_and_prefix(self, scenes):
        (scenes / 'some.txt').write_text('river/3.png\nbeach/1.png\n')
        root = str(scenes.parent)
        # A list without forests numbers the classes as one with them.
        dataset = SceneDataset(
            root,
            scenes.name,
            f'{scenes.name}/some.txt',
            classes=['beach', 'river'],
        )
        assert dataset.get_gt_labels().tolist() == [1, 0]

    def test_integer_labels(self, scenes):
        (scenes / 'numbers.txt').write_text('river/3.png 10\nbeach/1.png 2\n')
        dataset = SceneDataset(str(scenes), ann_file='numbers.txt')
        assert dataset.CLASSES == ('2', '10')
        assert dataset.get_gt_labels().tolist() == [1, 0]

    def test_few_labels_are_balanced_nested_and_repeatable(self, scenes):
        parts = {
            fraction: SceneDataset(str(scenes), ann_file='train.txt', fraction=fraction)
            for fraction in (0.01, 0.25, 0.5, 1.0)
        }
        counts = {f: Counter(part.get_gt_labels()) for f, part in parts.items()}
        assert counts == {
            f: {0: n, 1: n, 2: n} for f, n in ((0.01, 1), (0.25, 2), (0.5, 4), (1.0, 8))
        }
        assert set(paths(parts[0.01])) < set(paths(parts[0.25]))
        assert set(paths(parts[0.25])) < set(paths(parts[0.5]))
        torch.manual_seed(5)
        np.random.seed(5)
        again = SceneDataset(str(scenes), ann_file='train.txt', fraction=0.25)
        assert paths(again) == paths(parts[0.25])
        other = SceneDataset(
            str(scenes), ann_file='train.txt', fraction=0.25, fraction_seed=1
        )
        assert paths(other) != paths(again)

    @pytest.mark.parametrize(
        ('options', 'error', 'message'),
        [
            (dict(data_prefix='gone'), FileNotFoundError, 'gone is not a folder'),
            (dict(ann_file='gone.txt'), FileNotFoundError, r'list of images .*gone'),
            (dict(classes=['beach', 'river']), ValueError, 'not expected: forest'),
            (
                dict(classes=['beach', 'forest', 'lake', 'river']),
                ValueError,
                'no images of the classes lake',
            ),
            (dict(fraction=0.0), ValueError, 'fraction must be above 0'),
            (dict(fraction=1.5), ValueError, 'fraction must be above 0'),
        ],
    )
    def test_errors(self, scenes, options, error, message):
        with pytest.raises(error, match=message):
            SceneDataset(str(scenes), **options)

    def test_listed_image_that_does_not_exist(self, scenes):
        (scenes / 'bad.txt').write_text('river/3.png\nriver/77.png\n')
        with pytest.raises(FileNotFoundError, match=r'77\.png does not exist.*line 2'):
            SceneDataset(str(scenes), ann_file='bad.txt')

    def test_empty_class_folder(self, scenes):
        (scenes / 'zoo').mkdir()
        with pytest.raises(ValueError, match='no images of the classes zoo'):
            SceneDataset(str(scenes))

    def test_companions_of_macos_are_no_images(self, scenes):
        (scenes / 'beach' / '._0.png').write_bytes(b'no image')
        (scenes / '.thumbnails').mkdir()
        assert len(SceneDataset(str(scenes))) == 30


def test_known_sets():
    classes = {
        kind: kind.METAINFO['classes'] for kind in (UCMerced, AID, RESISC45, EuroSAT)
    }
    assert [len(set(names)) for names in classes.values()] == [21, 30, 45, 10]
    for names in classes.values():
        assert list(names) == sorted(names)
    for kind in classes:
        assert DATASETS.get(kind.__name__) is kind


def test_the_split_of_uc_merced():
    train, test = (
        (SPLITS / f'ucmerced_{part}.txt').read_text().split()
        for part in ('train', 'test')
    )
    whole = {
        f'{name}/{name}{index:02d}'
        for name in UCMerced.METAINFO['classes']
        for index in range(100)
    }
    assert len(train) == 1680
    assert len(test) == 420
    assert set(train) | set(test) == whole
    assert set(Counter(name.split('/')[0] for name in test).values()) == {20}


def test_multispectral_scenes_from_files_to_a_loss(tmp_path):
    """Eight-band GeoTIFFs at their own size, by config alone."""
    rng = np.random.default_rng(0)
    for name in ('field', 'town'):
        (tmp_path / name).mkdir()
        for index in range(2):
            with rasterio.open(
                tmp_path / name / f'{index}.tif',
                'w',
                driver='GTiff',
                width=40,
                height=40,
                count=8,
                dtype='uint16',
            ) as file:
                file.write(rng.integers(0, 4000, (8, 40, 40)).astype(np.uint16))
    cfg = Config(
        dict(
            type='SceneDataset',
            data_root=str(tmp_path),
            pipeline=[
                dict(type='LoadImagery', num_bands=8, value_range=(0, 4000)),
                dict(type='RandomResizedCrop', scale=32),
                dict(type='RandomFlip', prob=0.5, direction='horizontal'),
                dict(type='PackInputs'),
            ],
        )
    )
    dataset = DATASETS.build(cfg)
    samples = [dataset[index] for index in range(4)]
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            data_preprocessor=dict(mean=list(range(100, 108)), std=[60] * 8),
            backbone=dict(
                type='ResNet', depth=18, in_channels=8, base_channels=8, stem_channels=8
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
        )
    )
    batch = model.data_preprocessor(
        dict(
            inputs=torch.stack([sample['inputs'] for sample in samples]),
            data_samples=[sample['data_samples'] for sample in samples],
        ),
        training=True,
    )
    assert batch['inputs'].shape == (4, 8, 32, 32)
    band = samples[1]['inputs'][7].float()
    assert torch.allclose(batch['inputs'][1, 7], (band - 107) / 60)
    assert model(**batch, mode='loss')['loss'].isfinite()


class TestSplits:
    names = [
        f'{c}/{i}.jpg' for c, n in (('a', 10), ('b', 5), ('c', 2)) for i in range(n)
    ]

    def test_shares_of_each_class(self):
        train, test = split_scenes(self.names, 0.8, seed=3)
        assert sorted(train + test) == sorted(self.names)
        assert Counter(name[0] for name in train) == {'a': 8, 'b': 4, 'c': 1}

    def test_order_of_the_files_does_not_matter_but_the_seed_does(self):
        split = split_scenes(self.names, 0.5)
        assert split == split_scenes(self.names[::-1], 0.5)
        assert split != split_scenes(self.names, 0.5, seed=1)

    @pytest.mark.parametrize('ratio', [0.0, 1.0, -1.0])
    def test_ratio_out_of_range(self, ratio):
        with pytest.raises(ValueError, match='between 0 and 1'):
            split_scenes(self.names, ratio)

    def test_one_image(self):
        with pytest.raises(ValueError, match='one image only cannot be split: d'):
            split_scenes([*self.names, 'd/0.jpg'], 0.5)

    def test_parts_of_different_classes_are_chosen_independently(self):
        labels = ['a'] * 100 + ['b'] * 100
        part = balanced_part(labels, 0.5)
        first = [index for index in part if index < 100]
        second = [index - 100 for index in part if index >= 100]
        assert len(first) == len(second) == 50
        assert first != second


def test_split_tool(scenes, monkeypatch, capsys):
    def run(*options: object) -> str | int | None:
        monkeypatch.setattr(sys, 'argv', ['split_dataset.py', *map(str, options)])
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as stop:
            return stop.code
        return None

    assert run(scenes, '--train-ratio', 0.3, '--suffix', '_30') is None
    assert 'train_30.txt: 9 images' in capsys.readouterr().out
    train = find_scenes(scenes, 'train_30.txt')
    test = find_scenes(scenes, 'test_30.txt')
    assert Counter(name for _, name in train) == {'beach': 3, 'forest': 3, 'river': 3}
    assert not set(train) & set(test)
    assert len(test) == 21
    assert 'train_30.txt exists' in run(scenes, '--suffix', '_30')
    assert run(scenes, '--suffix', '_30', '--overwrite') is None
    assert len(find_scenes(scenes, 'train_30.txt')) == 24
    assert 'is not a folder' in run(scenes / 'nowhere')
