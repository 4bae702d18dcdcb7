# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from cmid_mm.engine.hooks.reconstruction_hook import ReconstructionHook, all_masked


def test_views_without_a_mask_get_that_of_another():
    masks = torch.zeros(3, 2, 2, 2, dtype=torch.bool)
    masks[0, 1, 0], masks[2, 0, 1] = True, True
    found = all_masked(masks)
    assert found.flatten(2).any(2).all()
    assert torch.equal(found[0, 1], masks[0, 1])
    assert torch.equal(found[2, 0], masks[2, 0])
    assert not all_masked(torch.zeros_like(masks)).any()


class Pairs(Dataset):
    """Packed view pairs, drawn from the global generators that a key seeds."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 20

    def __getitem__(self, key):
        self.asked.append(key)
        np.random.seed(key)
        random.seed(key)
        images = np.random.randint(0, 256, (2, 3, 16, 16), np.uint8)
        return dict(
            inputs=torch.from_numpy(images),
            masks=torch.from_numpy(np.random.rand(2, 2, 2) < 0.5),
            index=torch.tensor(key),
        )


class Preprocessor(BaseDataPreprocessor):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.full((1, 3, 1, 1), 128.0))
        self.register_buffer('std', torch.full((1, 3, 1, 1), 64.0))


class ToyModel(BaseModel):
    def __init__(self):
        super().__init__(Preprocessor())
        torch.manual_seed(0)
        self.decoder = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.3)
        self.seen = []

    def decode(self, images):
        return self.dropout(self.norm(self.decoder(images)))

    def forward(self, inputs, masks, index, mode='tensor'):
        return dict(loss=self.decode(inputs[:, 0].float() / 64).square().mean())

    @torch.no_grad()
    def reconstruct(self, batch):
        self.seen.append((self.training, self.norm.training, batch))
        image = batch['inputs'][:, 0].float() / 64 - 2
        result = dict(input=image, masked=image * 0, target=image)
        result['reconstruction'] = self.decode(image)
        return result


def train(work_dir, *hooks, by_epoch=True, duration=3, model=None):
    cfg = dict(by_epoch=by_epoch)
    cfg['max_epochs' if by_epoch else 'max_iters'] = duration
    runner = Runner(
        model or ToyModel(),
        str(work_dir),
        train_dataloader=dict(
            dataset=Pairs(),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=list(hooks),
        randomness=dict(seed=3),
        log_processor=dict(by_epoch=by_epoch),
        experiment_name=f'{Path(work_dir).parent.name}_{Path(work_dir).name}',
    )
    runner.train()
    return runner


def test_training_ends_bit_identical(tmp_path):
    plain = train(tmp_path / 'plain').model.state_dict()
    watched = train(tmp_path / 'watched', ReconstructionHook(interval=1, num_images=3))
    assert len(watched.model.seen) == 3
    for name, value in watched.model.state_dict().items():
        assert torch.equal(value, plain[name]), name
    assert plain['norm.num_batches_tracked'] == 30


def test_pictures_of_the_same_images(tmp_path):
    hook = ReconstructionHook(interval=2, num_images=3)
    runner = train(tmp_path / 'run', hook)
    # Spread over the data set, loaded once before the first iteration.
    assert runner.train_dataloader.dataset.asked[:3] == [0, 6, 13]
    seen = runner.model.seen
    assert [(training, norm) for training, norm, _ in seen] == [(True, True)] * 2
    assert seen[0][2] is seen[1][2]
    folder = tmp_path / 'run/vis_data/reconstruction'
    # Epoch 2 and, not a multiple, the last one.
    assert sorted(p.name for p in folder.iterdir()) == ['epoch_2.png', 'epoch_3.png']
    picture = cv2.imread(str(folder / 'epoch_3.png'))
    assert picture.shape[0] > 3 * 160
    # The first pixel of the first input, enlarged, below the title; BGR on disk.
    expected = seen[0][2]['inputs'][0, 0, :, 0, 0].tolist()
    assert picture[30, 5][::-1].tolist() == expected
    shown = Path(runner.log_dir, 'vis_data/vis_image')
    assert sorted(p.name for p in shown.iterdir()) == [
        'reconstruction_20.png',
        'reconstruction_30.png',
    ]


def test_chosen_images_and_iterations(tmp_path):
    hook = ReconstructionHook(interval=4, by_epoch=False, indices=[5, 1])
    runner = train(tmp_path / 'run', hook, by_epoch=False, duration=10)
    assert runner.train_dataloader.dataset.asked[:2] == [5, 1]
    names = sorted(p.name for p in (tmp_path / 'run/vis_data/reconstruction').iterdir())
    assert names == ['iter_04.png', 'iter_08.png', 'iter_10.png']


def test_model_without_reconstruction_head(tmp_path):
    model = ToyModel()
    model.heads = nn.ModuleDict(dict(contrastive=nn.Identity()))
    train(tmp_path / 'run', ReconstructionHook(interval=1), model=model)
    assert model.seen == []
    assert not (tmp_path / 'run/vis_data').exists()


def test_model_without_reconstruct_stops_at_the_start(tmp_path, monkeypatch):
    monkeypatch.delattr(ToyModel, 'reconstruct')
    with pytest.raises(TypeError, match='ToyModel has no method reconstruct'):
        train(tmp_path / 'run', ReconstructionHook())


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num_images=1), 'at least two images'),
        (dict(indices=[3]), 'at least two images'),
    ],
)
def test_bad_settings(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ReconstructionHook(**kwargs)


def test_index_outside_the_data_set(tmp_path):
    with pytest.raises(ValueError, match=r'indices \[20\] are outside .* of 20 images'):
        train(tmp_path / 'run', ReconstructionHook(indices=[0, 20]))


@pytest.mark.parametrize('bands', [(3, 2, 4), (1, 2)])
def test_bands_that_are_not_loaded(tmp_path, bands):
    """Told before the first step, not by the first picture."""
    hook = ReconstructionHook(interval=9, bands=bands)
    with pytest.raises(ValueError, match=r'one or three of 1 to 3, .* got \['):
        train(tmp_path / 'run', hook)


def test_bands_count_from_one():
    assert ReconstructionHook(bands=(3, 2, 1)).bands == [2, 1, 0]
    with pytest.raises(ValueError, match='bands count from 1'):
        ReconstructionHook(bands=(2, 1, 0))
