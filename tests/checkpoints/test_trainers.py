# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How trainers wrap and nest networks: their documented names, our numbers."""

import re

import pytest
import torch
from mmpretrain.models import ResNet
from torch import Tensor, nn

from cmid_mm.checkpoints import CheckpointError, export_backbone, load_backbone
from cmid_mm.checkpoints.containers import state_dicts
from cmid_mm.checkpoints.finding import find_backbone

State = dict[str, Tensor]


def resnet() -> ResNet:
    return ResNet(18, stem_channels=4, base_channels=4)


def state_of(seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator) + 0.1
        if value.is_floating_point()
        else torch.tensor(seed)
        for name, value in resnet().state_dict().items()
    }


def under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


#: The network that was trained, and a moving average of it.
TRAINED, AVERAGED = state_of(1), state_of(2)
HEAD = {'fc.weight': torch.ones(5, 32), 'fc.bias': torch.ones(5)}
CLASSIFIER = TRAINED | HEAD
SGD = dict(
    state={0: dict(momentum_buffer=torch.ones(3)), 1: {}},
    param_groups=[dict(lr=0.1, params=[0, 1])],
)


def lightning(state: State) -> dict:
    return {
        'epoch': 9,
        'global_step': 100,
        'pytorch-lightning_version': '2.4.0',
        'state_dict': state,
        'optimizer_states': [SGD],
        'hyper_parameters': dict(model='resnet18'),
    }


#: What a file holds, and how many tensors of the network have no place in a backbone.
FILES = {
    'compiled': (under('_orig_mod.', CLASSIFIER), 2),
    'compiled inside DDP': (under('module._orig_mod.', CLASSIFIER), 2),
    'DDP inside compiled': (under('_orig_mod.module.', CLASSIFIER), 2),
    'compiled backbone in Lightning': (
        lightning(under('model._orig_mod.', CLASSIFIER)),
        2,
    ),
    'compiled in the trainer of timm': (
        dict(
            epoch=3,
            arch='resnet18',
            state_dict=under('_orig_mod.', CLASSIFIER),
            optimizer=SGD,
            version=2,
            amp_scaler=dict(scale=65536.0),
            metric=77.5,
        ),
        2,
    ),
    'FSDP': (under('_fsdp_wrapped_module.', CLASSIFIER), 2),
    'AveragedModel': (
        {'n_averaged': torch.tensor(7), **under('module.', CLASSIFIER)},
        2,
    ),
    'AveragedModel of DDP': (
        {'n_averaged': torch.tensor(7), **under('module.module.', CLASSIFIER)},
        2,
    ),
    'net': (dict(net=under('module.', CLASSIFIER), acc=90.1, epoch=3), 2),
    'model_state': (dict(epoch=3, model_state=CLASSIFIER, optimizer_state=SGD), 2),
    'any container': (dict(weights=CLASSIFIER, loss=torch.tensor(1.0)), 2),
    'TorchGeo classification': (
        lightning(
            under('model.', CLASSIFIER) | {'criterion.weight': torch.ones(5)},
        ),
        2,
    ),
    'TorchGeo segmentation': (
        lightning(
            {
                **under('model.encoder.', TRAINED),
                'model.decoder.blocks.0.conv1.0.weight': torch.ones(8, 48, 3, 3),
                'model.segmentation_head.0.weight': torch.ones(5, 8, 3, 3),
            }
        ),
        0,
    ),
    'Lightning net': (lightning(under('net.', CLASSIFIER)), 2),
    'Lightning backbone': (
        lightning(under('backbone.', TRAINED) | under('classifier.', HEAD)),
        0,
    ),
    'VISSL': (
        dict(
            phase_idx=99,
            classy_state_dict=dict(
                base_model=dict(
                    model=dict(
                        trunk=under('_feature_blocks.', TRAINED),
                        heads={'0.clf.0.weight': torch.ones(5, 32)},
                    ),
                    meta=dict(input_shape=[3, 224, 224]),
                ),
                optimizer=dict(optim=SGD),
            ),
        ),
        0,
    ),
    'a body inside a detector': (dict(model=under('backbone.body.', TRAINED)), 0),
}


@pytest.mark.parametrize('file', FILES)
def test_every_weight_arrives(tmp_path, file):
    checkpoint, unused = FILES[file]
    torch.save(checkpoint, tmp_path / 'a.pth')
    module = resnet()
    report = load_backbone(module, tmp_path / 'a.pth')
    torch.testing.assert_close(dict(module.state_dict()), TRAINED, rtol=0, atol=0)
    assert (report.loaded, len(report.unused)) == (120, unused)
    assert 'choices' not in str(report)


#: Files with a moving average: (checkpoint, where the trained network stands, whose
#: checkpoint it is, by what other name the average can be asked for).
PAIRS = {
    'trainer of timm': (
        dict(
            state_dict=under('_orig_mod.', CLASSIFIER),
            state_dict_ema=under('module.', AVERAGED | HEAD),
        ),
        'state_dict',
        'plain state dict',
        'state_dict_ema',
    ),
    'DeiT and ConvNeXt': (
        dict(model=CLASSIFIER, model_ema=AVERAGED | HEAD, optimizer=SGD),
        'model',
        'plain state dict',
        'model_ema',
    ),
    'TorchGeo MoCo': (
        lightning(under('backbone.', TRAINED) | under('backbone_momentum.', AVERAGED)),
        'state_dict.backbone',
        'TorchGeo MoCo checkpoint',
        'backbone_momentum',
    ),
    'TorchGeo BYOL': (
        lightning(
            {
                **under('model.encoder.model.', CLASSIFIER),
                'model.predictor.mlp.0.weight': torch.ones(8, 8),
                **under('model._target.model.', AVERAGED | HEAD),
            }
        ),
        'state_dict.model.encoder.model',
        'TorchGeo BYOL checkpoint',
        '_target',
    ),
    'solo-learn': (
        lightning(
            {
                **under('backbone.', TRAINED),
                **under('classifier.', HEAD),
                **under('momentum_backbone.', AVERAGED),
            }
        ),
        'state_dict.backbone',
        'solo-learn checkpoint',
        'momentum_backbone',
    ),
    'AveragedModel beside the model': (
        dict(
            model=CLASSIFIER,
            ema={'n_averaged': torch.tensor(7), **under('module.', AVERAGED)},
        ),
        'model',
        'plain state dict',
        'ema',
    ),
    'semi-supervised detector': (
        dict(
            state_dict=under('student.backbone.', TRAINED)
            | under('teacher.backbone.', AVERAGED)
        ),
        'state_dict.student.backbone',
        'run of cmid_mm',
        'teacher.backbone',
    ),
}


@pytest.mark.parametrize('file', PAIRS)
def test_average_can_be_chosen(tmp_path, file):
    checkpoint, place, origin, name = PAIRS[file]
    torch.save(checkpoint, tmp_path / 'a.pth')
    module = resnet()
    report = str(load_backbone(module, tmp_path / 'a.pth'))
    torch.testing.assert_close(dict(module.state_dict()), TRAINED, rtol=0, atol=0)
    choice = re.escape(f"; taken: {place}, other choices: source='teacher' (")
    assert re.search(rf'{choice}[\w.]*{name}[\w.]*\)\)', report)
    assert f'({origin}, ' in report
    for source in ('teacher', name):
        module = resnet()
        report = str(load_backbone(module, tmp_path / 'a.pth', source))
        torch.testing.assert_close(dict(module.state_dict()), AVERAGED, rtol=0, atol=0)
        assert "other choices: source='student'" in report


def test_average_of_mmengine():
    """EMAHook saves the average as the model, the trained network beside it."""
    checkpoint = dict(
        state_dict=under('backbone.', AVERAGED),
        ema_state_dict={'steps': torch.tensor(1), **under('module.backbone.', TRAINED)},
    )
    found = find_backbone(checkpoint, 'a.pth')
    assert list(found.others) == ['ema_state_dict.backbone']
    assert torch.equal(found.state['conv1.weight'], AVERAGED['conv1.weight'])
    found = find_backbone(checkpoint, 'a.pth', 'ema_state_dict')
    assert torch.equal(found.state['conv1.weight'], TRAINED['conv1.weight'])


def test_several_networks(tmp_path):
    state = under('image.', TRAINED) | under('radar.', state_of(3))
    torch.save(state | under('image_ema.', AVERAGED), tmp_path / 'a.pth')
    found = find_backbone(torch.load(tmp_path / 'a.pth'), 'a.pth')
    assert found.place == 'image' and found.others == dict(
        radar='radar', teacher='image_ema'
    )
    module = resnet()
    load_backbone(module, tmp_path / 'a.pth', 'radar')
    torch.testing.assert_close(dict(module.state_dict()), state_of(3), rtol=0, atol=0)
    with pytest.raises(
        CheckpointError,
        match=r'holds no sar backbone; its tensors are named 3 \(image: 120, .*; '
        r"use source='student' \(image\) or source='radar' or source='teacher' \(image",
    ):
        load_backbone(module, tmp_path / 'a.pth', 'sar')


def test_choice_is_exported(tmp_path):
    torch.save(PAIRS['trainer of timm'][0], tmp_path / 'a.pth')
    meta = export_backbone(tmp_path / 'a.pth', tmp_path / 'b.pth', 'timm', 'teacher')
    assert meta['network'] == 'teacher'
    exported = torch.load(tmp_path / 'b.pth')['state_dict']
    torch.testing.assert_close(exported, AVERAGED, rtol=0, atol=0)


def test_usual_places_come_first():
    state = {'a.weight': torch.ones(1)}
    larger = {f'{i}.weight': torch.ones(1) for i in range(9)}
    checkpoint = dict(memory=larger, nested=dict(queue=state), model=state)
    checkpoint |= dict(epoch=torch.tensor(3), optimizer=dict(state={0: larger}))
    assert list(state_dicts(checkpoint, 'a.pth')) == [
        'model',
        'memory',
        '',
        'nested.queue',
    ]


class OwnBackbone(nn.Module):
    """One whose names are known to nobody, with a known network inside."""

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet()
        self.scale = nn.Linear(1, 1)


def test_own_backbone_around_a_known_network(tmp_path):
    source, module = OwnBackbone(), OwnBackbone()
    state = under('student.backbone.', source.state_dict())
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    load_backbone(module, tmp_path / 'a.pth')
    torch.testing.assert_close(module.state_dict(), source.state_dict())
    inner = resnet()
    load_backbone(inner, tmp_path / 'a.pth')  # the known network alone
    torch.testing.assert_close(inner.state_dict(), source.network.state_dict())
