# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from cmid_mm.evaluation.features import (
    LabelledFolder,
    accuracy,
    accuracy_per_class,
    extract_features,
    knn_accuracy,
    knn_predict,
    linear_probe_accuracy,
    linear_probe_predict,
    pool_features,
)
from tests.toy_baselines import build, toy_baseline


def write_image(path, rgb, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((side, side, 3), rgb[::-1], np.uint8)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def scenes(tmp_path):
    root = tmp_path / 'scenes'
    write_image(root / 'water/a.png', (0, 0, 200))
    write_image(root / 'water/deep/b.png', (0, 0, 100))
    write_image(root / 'forest/one 1.png', (0, 200, 0))
    (root / 'forest/notes.txt').write_text('not an image')
    write_image(root / 'overview.png', (9, 9, 9))
    return root


class ColourModel(nn.Module):
    """Mean colour through a BatchNorm and a dropout, to betray a wrong mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)

    def extract_feats(self, images):
        assert not torch.is_grad_enabled()
        return self.dropout(self.norm(images.float())).mean((2, 3)).double()


def names(dataset):
    return [
        Path(dataset.get_data_info(i)['img_path']).name for i in range(len(dataset))
    ]


class TestLabelledFolder:
    def test_class_is_first_folder_at_any_depth(self, scenes):
        dataset = LabelledFolder(scenes, size=8)
        assert dataset.class_names == ['forest', 'water']
        assert list(zip(names(dataset), dataset.get_gt_labels(), strict=True)) == [
            ('one 1.png', 0),
            ('a.png', 1),
            ('b.png', 1),
        ]
        image, label = dataset[1]
        assert label == 1
        assert image.shape == (3, 8, 8) and image.dtype == torch.uint8
        assert image[:, 0, 0].tolist() == [0, 0, 200]  # RGB

    def test_resizes(self, scenes):
        assert LabelledFolder(scenes, size=6)[0][0].shape == (3, 6, 6)

    def test_list_selects_and_orders(self, scenes):
        (scenes / 'train.txt').write_text('water/deep/b.png\n\nforest/one 1.png\n')
        for list_file in ('train.txt', scenes / 'train.txt'):
            dataset = LabelledFolder(scenes, list_file, size=8)
            assert names(dataset) == ['b.png', 'one 1.png']
            assert dataset.get_gt_labels().tolist() == [1, 0]

    def test_integer_labels_win_over_folders(self, scenes):
        (scenes / 'l.txt').write_text('water/a.png 10\nforest/one 1.png 2\n')
        dataset = LabelledFolder(scenes, 'l.txt', size=8)
        assert dataset.class_names == ['2', '10']
        assert dataset.get_gt_labels().tolist() == [1, 0]

    def test_class_names_fix_the_labels(self, scenes):
        class_names = ['water', 'sand', 'forest']
        dataset = LabelledFolder(scenes, class_names=class_names, size=8)
        assert dataset.get_gt_labels().tolist() == [2, 0, 0]

    def test_test_set_with_a_class_that_training_lacks(self, scenes):
        with pytest.raises(
            ValueError, match='not expected: forest; expected sand, water, those of'
        ):
            LabelledFolder(scenes, class_names=['sand', 'water'])

    def test_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='nowhere is not a folder'):
            LabelledFolder(tmp_path / 'nowhere')

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match='no images in class folders'):
            LabelledFolder(tmp_path)

    def test_one_class(self, scenes):
        (scenes / 'l.txt').write_text('water/a.png\nwater/deep/b.png\n')
        with pytest.raises(ValueError, match='one class only'):
            LabelledFolder(scenes, 'l.txt')

    @pytest.mark.parametrize(
        ('text', 'error', 'message'),
        [
            ('water/a.png\nwater/c.png\n', FileNotFoundError, 'l.txt, line 2'),
            ('water/a.png\noverview.png\n', ValueError, 'line 2: .* has no class'),
            ('\n', ValueError, 'lists nothing'),
        ],
    )
    def test_bad_list(self, scenes, text, error, message):
        (scenes / 'l.txt').write_text(text)
        with pytest.raises(error, match=message):
            LabelledFolder(scenes, 'l.txt')

    def test_wrong_bands_are_refused_at_once(self, scenes):
        with pytest.raises(ValueError, match='bands'):
            LabelledFolder(scenes, num_bands=8)

    def test_missing_list(self, scenes):
        with pytest.raises(
            FileNotFoundError, match=r'list of images .*gone\.txt does not'
        ):
            LabelledFolder(scenes, 'gone.txt')


class TestExtractFeatures:
    def test_features_follow_the_order_of_the_images(self, scenes):
        model = ColourModel()
        model.norm.running_mean.fill_(10)
        model.norm.running_var.fill_(1 - model.norm.eps)
        dataset = LabelledFolder(scenes, size=8)
        features, labels = extract_features(model, dataset, 2, 0)
        assert features.dtype == torch.float32
        assert labels.tolist() == [0, 1, 1]
        # The stored statistics, not the batch's, and no dropout.
        torch.testing.assert_close(
            features,
            torch.tensor([[-10.0, 190, -10], [-10, -10, 190], [-10, -10, 90]]),
        )

    def test_leaves_no_trace(self, scenes):
        model = ColourModel().train()
        model.dropout.eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        states = random.getstate(), np.random.get_state()[1].copy()
        torch_state = torch.get_rng_state()
        extract_features(model, LabelledFolder(scenes, size=8), 2, 0)
        assert model.training and model.norm.training and not model.dropout.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert random.getstate() == states[0]
        assert (np.random.get_state()[1] == states[1]).all()
        assert torch.equal(torch.get_rng_state(), torch_state)

    def test_workers_give_the_same(self, scenes):
        model = ColourModel()
        dataset = LabelledFolder(scenes, size=8)
        alone, _ = extract_features(model, dataset, 2, 0)
        with_workers, _ = extract_features(model, dataset, 2, 2)
        assert torch.equal(alone, with_workers)

    def test_model_without_features(self, scenes):
        with pytest.raises(TypeError, match='Linear has no method extract_feats'):
            extract_features(nn.Linear(1, 1), LabelledFolder(scenes, size=8))


def knn_by_loops(train_x, train_y, test_x, k, temperature):
    """Weighted k-NN, one image and one neighbour at a time, in float64."""
    predicted = []
    for query in test_x:
        similarities = [
            query @ x / np.linalg.norm(query) / np.linalg.norm(x) for x in train_x
        ]
        nearest = np.argsort(-np.array(similarities), kind='stable')[:k]
        votes = np.zeros(train_y.max() + 1)
        for neighbour in nearest:
            votes[train_y[neighbour]] += np.exp(similarities[neighbour] / temperature)
        predicted.append(int(votes.argmax()))
    return predicted


class TestKnn:
    @pytest.mark.parametrize('k', [1, 5, 20, 60, 200])  # 60 images
    @pytest.mark.parametrize('temperature', [0.07, 1.0])
    def test_equals_plain_loops(self, k, temperature):
        rng = np.random.default_rng(k)
        train_x, test_x = rng.normal(size=(60, 6)), rng.normal(size=(41, 6))
        train_y = rng.integers(0, 5, 60)
        predicted = knn_predict(
            torch.tensor(train_x),
            torch.tensor(train_y),
            torch.tensor(test_x),
            k,
            temperature,
            batch_size=16,
        )
        expected = knn_by_loops(train_x, train_y, test_x, k, temperature)
        assert predicted.tolist() == expected

    def test_a_near_minority_outweighs_a_far_majority(self):
        # Cosines 1, 0.6, 0.6: exp(1/T) against 2 exp(0.6/T), equal at T = 0.577.
        train = torch.tensor([[1.0, 0], [0.6, 0.8], [0.6, -0.8]])
        labels = torch.tensor([0, 1, 1])
        query = torch.tensor([[3.0, 0]])
        assert knn_predict(train, labels, query, 3, 0.57).item() == 0
        assert knn_predict(train, labels, query, 3, 0.58).item() == 1

    def test_ties_go_to_the_earlier_image_and_the_lower_label(self):
        train = torch.tensor([[0.0, 1], [1, 0], [1, 0], [1, 0], [1, 0]])
        labels = torch.tensor([0, 3, 1, 1, 2])
        query = torch.tensor([[2.0, 0]])
        assert knn_predict(train, labels, query, k=1).item() == 3
        assert knn_predict(train, labels, query, k=2).item() == 1  # 3 and 1 tie
        assert knn_predict(train, labels, query, k=3).item() == 1

    def test_tiny_temperature_does_not_overflow(self):
        train = torch.tensor([[1.0, 0], [0.0, 1]])
        query = torch.tensor([[1.0, 2.0]])
        assert knn_predict(train, torch.tensor([0, 1]), query, 2, 1e-3).item() == 1

    def test_accuracy_in_percent(self):
        train = torch.eye(3)
        labels = torch.tensor([0, 1, 2])
        test = torch.eye(3)[[0, 1, 2, 2]]
        found = knn_accuracy(train, labels, test, torch.tensor([0, 1, 2, 0]), k=1)
        assert found == 75

    @pytest.mark.parametrize(('k', 'temperature'), [(0, 0.07), (5, 0.0)])
    def test_bad_settings(self, k, temperature):
        x, y = torch.eye(2), torch.tensor([0, 1])
        with pytest.raises(ValueError, match='must be positive'):
            knn_predict(x, y, x, k, temperature)

    def test_nan(self):
        x, y = torch.eye(3), torch.tensor([0, 1, 1])
        x[1, 0] = torch.nan
        with pytest.raises(ValueError, match='1 of 3 images contain NaN'):
            knn_predict(x, y, torch.eye(3))


class TestLinearProbe:
    def test_finds_a_direction_that_neighbours_miss(self):
        # The class is the sign of one small feature among large ones.
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(600, 20, generator=generator) * 10
        x[:, 3] /= 1000
        y = (x[:, 3] > 0).long()
        train, test = (x[:500], y[:500]), (x[500:], y[500:])
        assert knn_accuracy(*train, *test) < 70
        assert linear_probe_accuracy(*train, *test) > 90

    def test_scale_and_offset_of_features_do_not_matter(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(60, 4, generator=generator)
        y = torch.arange(60) % 3
        scaled = x * torch.tensor([1.0, 10, 0.1, 5]) + torch.tensor([3.0, 0, -2, 1])
        expected = linear_probe_predict(x, y, x)
        assert torch.equal(linear_probe_predict(scaled, y, scaled), expected)
        assert expected.unique().numel() == 3

    def test_c_is_the_inverse_strength_of_the_penalty(self):
        x = torch.tensor([[-3.0], [-2.0], [-1.0], [1.0], [2.0]])
        y = torch.tensor([0, 0, 0, 1, 1])
        # All weight is penalised away: the majority's class is left.
        assert linear_probe_predict(x, y, x, c=1e-6).tolist() == [0] * 5
        assert linear_probe_predict(x, y, x, c=1e3).tolist() == y.tolist()

    def test_one_training_class(self):
        x = torch.eye(2)
        with pytest.raises(ValueError, match='at least two classes'):
            linear_probe_predict(x, torch.zeros(2, dtype=torch.long), x)


def test_accuracy_per_class():
    predicted, labels = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 0, 1])
    assert accuracy(predicted, labels) == 50
    first, second, absent = accuracy_per_class(predicted, labels, 3)
    assert first == pytest.approx(100 / 3)
    assert second == 100
    assert np.isnan(absent)


# -- mmpretrain's algorithms -------------------------------------------------------


def test_pooling_takes_the_last_output_without_class_token():
    maps = torch.randn(2, 5, 3, 4), torch.randn(2, 7, 2, 2)
    torch.testing.assert_close(pool_features(maps), maps[1].mean((2, 3)))
    assert torch.equal(pool_features(maps[0]), maps[0].mean((2, 3)))
    tokens = torch.randn(2, 1 + 6, 5)
    expected = tokens[:, 1:].sum(1) / 6
    torch.testing.assert_close(pool_features([tokens]), expected)
    pooled = torch.randn(2, 5)
    assert torch.equal(pool_features((pooled,)), pooled)


@pytest.mark.parametrize('name', ['mae_vit-tiny_scenes', 'mocov2_r18_scenes'])
def test_features_of_an_algorithm_of_mmpretrain(name, scenes):
    model = build(toy_baseline(name))
    dataset = LabelledFolder(scenes, size=64)
    features, labels = extract_features(model, dataset, 2, 0)
    images = torch.stack([dataset[index][0] for index in range(3)])
    pixels = {key: toy_baseline(name).data_preprocessor[key] for key in ('mean', 'std')}
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in pixels.values())
    model.eval()
    with torch.no_grad():
        if name.startswith('mae'):  # whole images, nothing masked
            tokens = model.backbone((images - mean) / std, mask=None)[-1]
            expected = tokens[:, 1:].mean(1)
        else:
            expected = model.backbone((images - mean) / std)[-1].mean((2, 3))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert labels.tolist() == dataset.get_gt_labels().tolist()


def test_algorithm_with_another_preprocessor_is_refused(scenes):
    cfg = toy_baseline('mocov2_r18_scenes')
    cfg.data_preprocessor = dict(type='SelfSupDataPreprocessor')
    with pytest.raises(TypeError, match='SelfSupViewPreprocessor'):
        extract_features(build(cfg), LabelledFolder(scenes, size=64), 2, 0)
