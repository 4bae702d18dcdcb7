# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Pre-trained backbones in the configs that the OpenMMLab packages ship.

Everything goes through tools/train.py. Where a test is about the weights with which
training begins, the runner stops there.
"""

import json
import re
import shlex
from pathlib import Path

import cv2
import mmengine.runner.runner
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmpretrain.models import ConvNeXt, ResNet, SwinTransformer, VisionTransformer

from cmid_mm.checkpoints import export_backbone, read_checkpoint

PAGE = (Path(__file__).parents[2] / 'docs' / 'mixing.md').read_text()
MMPRETRAIN = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
UPERNET = 'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py'
FASTER_RCNN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
ORIENTED_RCNN = 'mmrotate::oriented_rcnn/oriented-rcnn-le90_r50_fpn_1x_dota.py'
# The buffers that a module computes, and output norms that pre-training does not have
NOT_IN_FILE = re.compile(r'.*(relative_position_index|attn_mask)|norm[012]\.\w+')
RUN_CONFIG = (
    'data_preprocessor = dict(mean=[86.18235, 91.9275, 85.374], '
    'std=[34.6545, 34.476, 35.8785])'
)


def save_run(path: Path, backbone: torch.nn.Module) -> None:
    """Save a backbone as a pre-training run does, with no two weights the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in backbone.state_dict().items():
        if value.is_floating_point() and value.ndim < 4:  # convolutions are random
            value += 0.1 * torch.rand(value.shape, generator=generator)
        state[f'student.backbone.{name}'] = value
    torch.save(dict(state_dict=state, meta=dict(cfg=RUN_CONFIG, iter=7)), path)


BACKBONES = {
    'cmid_r50_millionaid': lambda: ResNet(50),
    'cmid_swin-b_millionaid': lambda: SwinTransformer('base'),
    'cmid_vit-b_millionaid': lambda: VisionTransformer(
        'base', patch_size=16, out_type='featmap'
    ),
    'cmid_convnext-b_millionaid': lambda: ConvNeXt('base', gap_before_final_norm=False),
}


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder in which the page's checkpoints and configs are made on demand."""
    folder = tmp_path_factory.mktemp('mixing')

    def checkpoint(name: str) -> dict[str, torch.Tensor]:
        file = folder / name
        if not file.exists():
            if file.name == 'swin-t.safetensors':
                save_run(folder / 'swin-t.pth', SwinTransformer('tiny'))
                export_backbone(folder / 'swin-t.pth', file, layout='timm')
            else:
                save_run(file, BACKBONES[file.parent.name]())
        file = folder / 'swin-t.pth' if file.suffix == '.safetensors' else file
        return {
            name.removeprefix('student.backbone.'): value
            for name, value in read_checkpoint(file)['state_dict'].items()
        }

    return folder, checkpoint


@pytest.fixture
def start(run, workplace, monkeypatch):
    """Run tools/train.py up to the initial weights; returns the runner or the error."""
    folder, _ = workplace
    runners = []

    def initialise(self: Runner) -> None:
        self._init_model_weights()
        runners.append(self)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(Runner, 'train', initialise)
    # The data of the examples are not here.
    monkeypatch.setattr(Runner, 'train_loop', None)
    monkeypatch.setattr(Runner, 'train_dataloader', {})
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)  # it takes seconds

    def start_tool(*args: object) -> Runner | str:
        error = run('train.py', *args, '--work-dir', folder / 'work')
        assert bool(error) != bool(runners)
        return error or runners[0]

    return start_tool


@pytest.fixture
def uninitialised(monkeypatch):
    """Leave out the random numbers of models that only their shapes matter of."""
    for layer in (torch.nn.Linear, torch.nn.modules.conv._ConvNd):
        monkeypatch.setattr(layer, 'reset_parameters', lambda self: None)


def commands() -> list[tuple[str, str]]:
    """The page's commands, and for its config files the one that trains them."""
    blocks = re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
    lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
    files = re.findall(r'```python\n# (\S+)\n(.*?)```', PAGE, re.DOTALL)
    return [(line, '') for line in lines if not line.startswith('#')] + [
        (f'python tools/train.py {name}', text) for name, text in files
    ]


# One example for each package is run always, the others before a release.
QUICK = {MMPRETRAIN, UPERNET, FASTER_RCNN, ORIENTED_RCNN}


def example_parameters() -> list:
    return [
        pytest.param(
            command,
            text,
            id=(config := shlex.split(command)[2]),
            marks=[] if config in QUICK else pytest.mark.slow,
        )
        for command, text in commands()
    ]


def test_page_has_examples_for_every_package():
    used = [command + text for command, text in commands()]
    assert len(used) == 13
    for package in ('mmpretrain', 'mmseg', 'mmdet', 'mmrotate'):
        assert sum(f'{package}::' in text for text in used) >= 2


@pytest.mark.parametrize(('command', 'text'), example_parameters())
def test_example_of_the_page(command, text, start, workplace, capsys):
    folder, checkpoint = workplace
    python, tool, config, *options = shlex.split(command)
    assert (python, tool) == ('python', 'tools/train.py')
    if text:
        (folder / config).write_text(text)
    (file,) = set(
        re.findall(r'work_dirs/[\w./-]+\.(?:pth|safetensors)', command + text)
    )
    expected = checkpoint(file)

    runner = start(config, *options)
    assert isinstance(runner, Runner), runner
    assert 'this config normalises' in capsys.readouterr().out or text
    package = re.search(r'(mm\w+)::', config + text)[1]
    assert runner.default_scope.scope_name == package
    state = runner.model.backbone.state_dict()
    for name, value in state.items():
        if name in expected:
            assert value.shape == expected[name].shape or name == 'pos_embed'
            if value.shape == expected[name].shape:
                assert torch.equal(value, expected[name]), name
        else:
            assert NOT_IN_FILE.fullmatch(name), name
    assert len(expected.keys() & state.keys()) > 100
    # What follows the backbone fits it.
    runner.model.eval()
    size = 224 if package == 'mmpretrain' else 64
    image = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        if package in ('mmdet', 'mmrotate'):
            assert len(runner.model.extract_feat(image)) == 5
        else:
            runner.model(image, mode='tensor')


@pytest.fixture(scope='module')
def misfits(tmp_path_factory):
    """Files that do not fit a ResNet-50, and what the tool says about each."""
    folder = tmp_path_factory.mktemp('misfits')
    save_run(folder / 'depth.pth', ResNet(18))
    save_run(folder / 'architecture.pth', SwinTransformer('tiny'))
    save_run(folder / 'bands.pth', ResNet(50, in_channels=4))
    other = {'fc.weight': torch.ones(2, 2), 'text.weight': torch.ones(2)}
    torch.save(dict(state_dict=other), folder / 'other.pth')
    (folder / 'empty.pth').touch()
    torch.save(torch.nn.Linear(2, 2), folder / 'pickled.pth')
    return folder


MISFITS = {
    'depth': 'depth: the file holds a ResNet-18, the module is a ResNet-50; for the '
    'network of the file set depth=18, and in_channels',
    'architecture': 'the file holds a Swin 2-2-6-2 (width 96, 3 input bands), the '
    'module is a ResNet-50 (width 64, 3 input bands); take a config with such a '
    "backbone, or write type='SwinTransformer', embed_dims=96",
    'bands': "input bands: the file has 4, the module 3; set the backbone's "
    'in_channels=4 (--cfg-options model.backbone.in_channels=4; for CMID as many',
    'other': 'no weight of ResNet is in the file, whose tensors are named 2 (fc: 1, '
    'text: 1)',
    'empty': 'is empty (0 bytes)',
    'pickled': 'no weight of ResNet is in the file, whose tensors are named 2 '
    '(weight: 1, bias: 1)',
}


@pytest.mark.parametrize('misfit', MISFITS)
@pytest.mark.parametrize(
    'config',
    [MMPRETRAIN, UPERNET, FASTER_RCNN, ORIENTED_RCNN],
    ids=lambda c: c.partition('::')[0],
)
def test_misfit_is_refused(config, misfit, start, misfits, uninitialised):
    options = ['--cfg-options', 'model.backbone.type=ResNet'] * (config == UPERNET)
    file = misfits / f'{misfit}.pth'
    error = start(config, '--backbone-checkpoint', file, *options)
    assert isinstance(error, str) and error.startswith('error: ')  # exit status 1
    assert str(file) in error and MISFITS[misfit] in error and '\n' not in error


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (UPERNET, 'deep stem .*--cfg-options model.backbone.type=ResNet'),
        (
            'mmdet::faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
            'other convolutions .*--cfg-options model.backbone.style=pytorch',
        ),
        (
            'mmdet::sort/sort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_'
            'test-mot17halfval.py',
            'init_cfg of the config loads .* add --cfg-options .*init_cfg=None',
        ),
        (
            'mmdet::deepsort/deepsort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_'
            'test-mot17halfval.py',
            'several backbones, model.detector.backbone and model.reid.backbone',
        ),
    ],
)
def test_packaged_configs_that_need_more_say_what(config, message, start, workplace):
    name = 'work_dirs/cmid_r50_millionaid/epoch_200.pth'
    workplace[1](name)
    error = start(config, '--backbone-checkpoint', name)
    assert isinstance(error, str) and re.search(message, error)


def write_scene(folder: Path, name: str) -> None:
    """An image of noise with a bright square."""
    folder.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 100, (64, 64, 3), dtype=np.uint8)
    image[16:40, 16:40] = 255
    cv2.imwrite(str(folder / name), image)


def imagenet(root: Path) -> list[str]:
    for label in ('a', 'b'):
        write_scene(root / 'train' / label, '0.jpg')
    (root / 'meta').mkdir()
    (root / 'meta' / 'train.txt').write_text('a/0.jpg 0\nb/0.jpg 1\n')
    return [
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.pipeline.RandomResizedCrop.scale=64',
        'optim_wrapper.optimizer.lr=1e-4',
    ]


def ade20k(root: Path) -> list[str]:
    for name in ('0', '1'):
        write_scene(root / 'images/training', f'{name}.jpg')
        labels = np.full((64, 64), 1, np.uint8)
        labels[16:40, 16:40] = 2
        folder = root / 'annotations/training'
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f'{name}.png'), labels)
    return [
        'model.backbone.type=ResNet',
        'train_cfg.max_iters=1',
        'train_dataloader.dataset.pipeline.RandomResize.scale=(64,64)',
        'train_dataloader.dataset.pipeline.RandomCrop.crop_size=(64,64)',
        'model.data_preprocessor.size=(64,64)',
        'optim_wrapper.optimizer.lr=1e-4',
    ]


def coco(root: Path) -> list[str]:
    for name in ('0', '1'):
        write_scene(root / 'train2017', f'{name}.jpg')
    content = dict(
        images=[
            dict(id=i, file_name=f'{i}.jpg', height=64, width=64) for i in range(2)
        ],
        annotations=[
            dict(
                id=i,
                image_id=i,
                category_id=1,
                bbox=[16, 16, 24, 24],
                area=576,
                iscrowd=0,
            )
            for i in range(2)
        ],
        categories=[dict(id=1, name='person')],
    )
    (root / 'annotations').mkdir()
    file = root / 'annotations' / 'instances_train2017.json'
    file.write_text(json.dumps(content))
    scale = 'train_dataloader.dataset.pipeline.Resize.scale=(64,64)'
    return ['train_cfg.max_epochs=1', scale]


def dota(root: Path) -> list[str]:
    (root / 'trainval/annfiles').mkdir(parents=True)
    for name in ('0', '1'):
        write_scene(root / 'trainval/images', f'{name}.png')
        box = '16 16 40 16 40 40 16 40 ship 0\n'
        (root / 'trainval/annfiles' / f'{name}.txt').write_text(box)
    scale = 'train_dataloader.dataset.pipeline.Resize.scale=(64,64)'
    return ['train_cfg.max_epochs=1', scale]


@pytest.mark.parametrize(
    ('config', 'prepare'),
    [
        (MMPRETRAIN, imagenet),
        pytest.param(UPERNET, ade20k, marks=pytest.mark.slow),
        pytest.param(FASTER_RCNN, coco, marks=pytest.mark.slow),
        pytest.param(ORIENTED_RCNN, dota, marks=pytest.mark.slow),
    ],
)
def test_packaged_config_trains(config, prepare, run, workplace, tmp_path, monkeypatch):
    folder, checkpoint = workplace
    monkeypatch.chdir(folder)
    monkeypatch.setattr(mmengine.runner.runner, 'collect_env', dict)
    name = 'work_dirs/cmid_r50_millionaid/epoch_200.pth'
    before = checkpoint(name)
    options = [
        *prepare(tmp_path / 'data'),
        *('val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'),
        *('train_dataloader.batch_size=2', 'train_dataloader.num_workers=0'),
        'train_dataloader.persistent_workers=False',
        'default_hooks.logger.interval=1',
    ]
    error = run(
        'train.py',
        config,
        *('--backbone-checkpoint', name, '--work-dir', tmp_path / 'work'),
        *('--data-root', tmp_path / 'data', '--cfg-options', *options),
    )
    assert error is None
    losses = MessageHub.get_current_instance().get_scalar('train/loss')
    assert np.isfinite(losses.current())
    (file,) = [
        *(tmp_path / 'work').glob('epoch_1.pth'),
        *(tmp_path / 'work').glob('iter_1.pth'),
    ]
    after = read_checkpoint(file)['state_dict']
    # It started from the file, and learned.
    for weight in ('layer1.0.conv1.weight', 'layer4.2.conv3.weight'):
        change = (after[f'backbone.{weight}'] - before[weight]).abs().max()
        assert change < 0.02 and (change > 0 or weight.startswith('layer1'))
