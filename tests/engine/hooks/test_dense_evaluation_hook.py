# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import HOOKS
from mmpretrain.models import ResNet
from PIL import Image

from cmid_mm.engine.hooks import dense_evaluation_hook as module
from cmid_mm.engine.hooks.evaluation_hook import INITIAL_KEY
from cmid_mm.evaluation.dense import probe_pixels
from cmid_mm.labels.errors import LabelError
from tests.engine.hooks.short_runs import logged, train

CLASSES = ['dark', 'bright']


class Preprocessor(BaseDataPreprocessor):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.full((3, 1, 1), 100.0))
        self.register_buffer('std', torch.full((3, 1, 1), 50.0))

    def normalize(self, images):
        return (images - self.mean) / self.std


class Network(BaseModel):
    def __init__(self):
        super().__init__(Preprocessor())
        torch.manual_seed(0)
        self.backbone = ResNet(18, stem_channels=4, base_channels=4)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.backbone(inputs)[-1].square().mean())


@pytest.fixture
def tiles(tmp_path):
    """Four tiles, dark left and bright right, and their masks."""
    rng = np.random.default_rng(0)
    for index in range(4):
        mask = np.zeros((40, 40), np.uint8)
        mask[:, 8 * (index + 1) :] = 1
        image = 150 * mask[..., None] + rng.integers(0, 90, (40, 40, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f'{index}.png')
        Image.fromarray(mask).save(tmp_path / f'{index}_mask.tif')
    return tmp_path


def make_hook(tiles, **options):
    labels = dict(path='{stem}_mask.tif', classes=CLASSES)
    options = dict(
        dict(
            train=dict(images='[01].png', labels=labels),
            test=dict(images='[23].png', labels=labels),
            data_root=str(tiles),
            stages=(0, 1),
        ),
        **options,
    )
    return HOOKS.build(dict(type='DenseEvaluationHook', **options))


def test_training_ends_bit_identical_and_is_measured(tmp_path, tiles):
    plain = train(Network(), tmp_path / 'plain', max_epochs=2).model.state_dict()
    hook = make_hook(tiles, interval=1, reduction=2)
    runner = train(Network(), tmp_path / 'watched', hook, max_epochs=2)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, plain[name]), name
    points = logged(runner, 'dense_mIoU', 'dense_aAcc')
    assert [step for step, *_ in points] == [0, 3, 6]
    windows = hook.train_windows, hook.test_windows
    found = probe_pixels(runner.model, *windows, stages=(0, 1), reduction=2)
    assert points[-1][1:] == (found['dense_mIoU'], found['dense_aAcc'])
    assert found['dense_mIoU'] > 50
    (line,) = [
        line
        for line in next(tmp_path.glob('watched/*/*.log')).read_text().splitlines()
        if 'Frozen features, epoch 2' in line
    ]
    assert f'dense_mIoU: {points[-1][1]:.2f} (initial {points[0][1]:.2f})' in line


def test_resumed_run_keeps_the_initial_values(tmp_path, tiles):
    first = train(
        Network(), tmp_path / 'run', make_hook(tiles, interval=1), max_epochs=1
    )
    initial = logged(first, 'dense_mIoU')[0][1]
    resumed = train(
        Network(),
        tmp_path / 'run',
        make_hook(tiles, interval=1),
        max_epochs=2,
        resume=True,
        load_from=str(tmp_path / 'run/epoch_1.pth'),
    )
    assert resumed.message_hub.get_info(INITIAL_KEY)['dense_mIoU'] == initial
    assert len(resumed.message_hub.get_scalar('features/dense_mIoU').data[0]) == 3


def test_other_processes_wait(tiles, monkeypatch):
    monkeypatch.setattr(module, 'is_main_process', lambda: False)
    assert make_hook(tiles).evaluate(Network()) == {}


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(head='deep'), ValueError, 'head must be one of'),
        (dict(data_root='nowhere'), FileNotFoundError, 'nowhere'),
        (dict(stages=(1, 1)), ValueError, r'stages=\[1, 1\]: expected'),
        (
            dict(
                test=dict(
                    images='1.png', labels=dict(path='{stem}_mask.tif', classes=CLASSES)
                )
            ),
            ValueError,
            '1 of the 1 test images are learnt from',
        ),
        (
            dict(test=dict(images='2.png', labels='{name}_mask.tif')),
            LabelError,
            '{name} stands for nothing; {stem} is the name of each scene',
        ),
        (
            dict(
                test=dict(
                    images='3.png',
                    labels=dict(path='{stem}_mask.tif', classes=['bright', 'dark']),
                )
            ),
            LabelError,
            'have the classes bright, dark',
        ),
    ],
)
def test_what_cannot_be_measured_stops_the_run_before_it_begins(
    tiles, options, error, message
):
    with pytest.raises(error, match=message):
        make_hook(tiles, **options)
