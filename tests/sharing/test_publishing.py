# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Published weights load wherever the card says, and the card says what is known."""

import hashlib
import json
import re
import runpy
from pathlib import Path

import pytest
import timm
import torch
import yaml
from mmengine.config import Config
from mmpretrain.models import ConvNeXt, ResNet, SwinTransformer, VisionTransformer
from safetensors.torch import load_file

import cmid_mm
from cmid_mm.checkpoints import CheckpointError, load_backbone
from cmid_mm.checkpoints.exporting import EXPORT_LAYOUTS
from cmid_mm.sharing import Facts, publish
from cmid_mm.sharing.timm_names import timm_model
from tests.engine.damage import change_a_byte

ROOT = Path(__file__).parents[2]
SLOW = pytest.mark.slow
SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
SMALL = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


@torch.no_grad()
def save_run(path, backbone):
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    backbone.eval()
    pipeline = [dict(type='LoadImagery', bands=[4, 3, 2], value_range=(0, 3000))]
    cfg = Config(
        dict(
            data_preprocessor=dict(mean=[51.0] * 3, std=[102.0] * 3),
            train_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    ).pretty_text
    state = {f'student.backbone.{k}': v for k, v in backbone.state_dict().items()}
    state |= {f'teacher.{k}': v + 1 for k, v in backbone.state_dict().items()}
    meta = dict(cfg=cfg, epoch=3, iter=30, experiment_name='mine_2026')
    torch.save(
        dict(meta=meta, state_dict=state, optimizer=dict(state=torch.ones(9))), path
    )
    return backbone


def blocks_of(card):
    """The code of a card."""
    return re.findall(r'```python\n(.*?)```', card, re.DOTALL)


@torch.no_grad()
def test_resnet_loads_as_its_card_says(tmp_path, monkeypatch):
    source = save_run(tmp_path / 'run.pth', ResNet(18, out_indices=(0, 1, 2, 3)))
    folder = tmp_path / 'out'
    written = publish(tmp_path / 'run.pth', folder, 'mine')
    assert sorted(written) == sorted(folder.iterdir()) and len(written) == 3
    digest = hashlib.sha256(written[0].read_bytes()).hexdigest()
    assert written[0].name == f'mine_timm-{digest[:8]}.safetensors'
    state = load_file(written[0])
    assert len(state) == 120 and torch.equal(state['conv1.weight'], source.conv1.weight)

    monkeypatch.chdir(folder)
    images = torch.randn(1, 3, 64, 64)
    expected = source(images)
    ours, in_timm, in_torchvision, config = blocks_of(Path('README.md').read_text())
    names: dict = {}
    exec(ours.replace("preprocess('image.tif')", 'images'), dict(images=images), names)
    torch.testing.assert_close(names['features'], list(expected))
    exec(in_timm, {}, names)
    features = names['model'].eval().forward_features(images)
    torch.testing.assert_close(features, expected[-1])
    exec(in_torchvision, {}, names)
    model = torch.nn.Sequential(*list(names['model'].eval().children())[:-2])
    torch.testing.assert_close(model(images), expected[-1])
    exec(config, {}, names)
    module = ResNet(18, init_cfg=names['init_cfg'])
    module.init_weights()
    module.eval()
    torch.testing.assert_close(module(images)[-1], expected[-1])


@pytest.mark.parametrize(
    'load', [cmid_mm.load_backbone, lambda file: load_backbone(ResNet(18), file)]
)
def test_a_changed_file_is_refused(tmp_path, load):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))
    layouts = EXPORT_LAYOUTS
    for file in publish(tmp_path / 'run.pth', tmp_path / 'out', layouts=layouts)[:-2]:
        change_a_byte(file)
        assert load_file(file)  # the format has no checksums
        with pytest.raises(CheckpointError, match='expected that in its name; downl'):
            load(file)


@torch.no_grad()
@pytest.mark.parametrize(
    'way',
    [
        lambda file: dict(pretrained_cfg_overlay=dict(file=file), pretrained=True),
        pytest.param(lambda file: dict(checkpoint_path=file), marks=SLOW),
    ],
)
def test_features_only_in_timm(tmp_path, way):
    source = save_run(tmp_path / 'run.pth', ResNet(18, out_indices=(0, 1, 2, 3)))
    file, *_ = publish(tmp_path / 'run.pth', tmp_path / 'out')
    model = timm.create_model('resnet18', features_only=True, **way(str(file)))
    images = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(source(images), model.eval()(images)[1:], strict=True):
        torch.testing.assert_close(theirs, ours)


@SLOW
@torch.no_grad()
def test_folder_is_a_model_of_timm(tmp_path):
    source = save_run(tmp_path / 'run.pth', ResNet(18))
    publish(tmp_path / 'run.pth', tmp_path / 'out', facts=Facts(license='cc-by-4.0'))
    model = timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model.eval().forward_features(images), source(images)[0])
    assert model.num_classes == 0 and model.pretrained_cfg['license'] == 'cc-by-4.0'
    assert timm.data.resolve_model_data_config(model)['mean'] == pytest.approx(
        [0.2] * 3
    )


def test_card_says_what_is_known_and_what_is_not(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))
    facts = Facts(
        '900 tiles of mine',
        'cc-by-4.0',
        ['nir', 'red', 'green'],
        metrics=[('20-NN | tiles', '61.5', 'cmid-mm evaluate-features a b')],
    )
    publish(tmp_path / 'run.pth', tmp_path / 'out', 'mine', 'teacher', (), facts)
    card = (tmp_path / 'out' / 'README.md').read_text()
    head = yaml.safe_load(card.split('---')[1])
    assert head['license'] == 'cc-by-4.0' and head['library_name'] == 'cmid_mm'
    assert 'the teacher network of `run.pth` (run of cmid_mm)' in card
    for row in (
        '| bands | 3: nir, red, green |',
        '| of the files | [4, 3, 2] |',
        '| values that become 0 and 255 | [0, 3000] |',
        '| mean (0-255) | 51, 51, 51 |',
        '| resolution | unknown |',
        '| images | 900 tiles of mine |',
        '| run | mine_2026 |',
        '| epochs | 3 |',
        '| 20-NN \\| tiles | 61.5 | `cmid-mm evaluate-features a b` |',
    ):
        assert row in card
    config = json.loads((tmp_path / 'out' / 'config.json').read_text())
    assert 'architecture' not in config  # timm has none of this width
    assert config['cmid_mm']['reading']['bands'] == [4, 3, 2]
    assert config['cmid_mm']['band_names'] == ['nir', 'red', 'green']
    publish(tmp_path / 'run.pth', tmp_path / 'bare')
    bare = (tmp_path / 'bare' / 'README.md').read_text()
    assert (
        'None was given.' in bare
        and yaml.safe_load(bare.split('---')[1])['license'] == 'unknown'
    )


@pytest.mark.parametrize('there', ['README.md', 'config.json'])
def test_pages_of_others_are_not_replaced(tmp_path, there):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))
    (tmp_path / there).write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match=f'{there} is there already, and not of'):
        publish(tmp_path / 'run.pth', tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(['run.pth', there])
    for metric in ('1', '2'):  # once more for the card
        facts = Facts(metrics=[('OA', metric, 'x')])
        publish(tmp_path / 'run.pth', tmp_path / 'out', facts=facts)
    assert '| OA | 2 | `x` |' in (tmp_path / 'out/README.md').read_text()
    before = sorted((tmp_path / 'out').iterdir())
    assert len(before) == 3
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))  # other weights
    with pytest.raises(FileExistsError, match='holds other published weights .run_tim'):
        publish(tmp_path / 'run.pth', tmp_path / 'out')
    assert sorted((tmp_path / 'out').iterdir()) == before


def test_other_number_of_band_names_is_refused(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))
    with pytest.raises(ValueError, match='takes 3 bands, but 2 names were given'):
        publish(tmp_path / 'run.pth', tmp_path / 'out', facts=Facts(bands=['a', 'b']))
    assert not list((tmp_path / 'out').iterdir())


@pytest.mark.parametrize('name', ['a/b', "it's", '..', '.hidden', 'a\nb'])
def test_names_that_files_or_code_cannot_have_are_refused(tmp_path, name):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))
    with pytest.raises(ValueError, match='cannot begin the names of published files'):
        publish(tmp_path / 'run.pth', tmp_path / 'out', name)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('layouts', [['mmpretrain'], ['mmdet', 'mmpretrain']])
def test_layouts_are_files(tmp_path, layouts):
    save_run(tmp_path / 'run.pth', VisionTransformer(SMALL, img_size=32))
    files = publish(tmp_path / 'run.pth', tmp_path, 'a', layouts=layouts)[:-2]
    assert [file.name.split('-')[0] for file in files] == [f'a_{n}' for n in layouts]
    assert 'backbone.cls_token' in load_file(files[-1])


def test_what_timm_does_not_have_gets_the_names_of_mmpretrain(tmp_path):
    save_run(tmp_path / 'run.pth', VisionTransformer(SMALL, img_size=32, pre_norm=True))
    state = torch.load(tmp_path / 'run.pth', weights_only=True)
    state['state_dict'] = {
        k.replace('layers', 'parts'): v for k, v in state['state_dict'].items()
    }
    torch.save(state, tmp_path / 'own.pth')
    file, *_ = publish(tmp_path / 'own.pth', tmp_path)
    assert file.name.startswith('own_mmpretrain-')
    assert len(blocks_of((tmp_path / 'README.md').read_text())) == 2  # of mm... alone


@pytest.mark.parametrize(
    ('network', 'expected'),
    [
        pytest.param(lambda: ResNet(50), 'resnet50', marks=SLOW),
        pytest.param(
            lambda: SwinTransformer('tiny'), 'swin_tiny_patch4_window7_224', marks=SLOW
        ),
        pytest.param(lambda: ConvNeXt('tiny'), 'convnext_tiny', marks=SLOW),
        (lambda: VisionTransformer('deit-tiny', 32), 'vit_tiny_patch16_224'),
        (lambda: VisionTransformer(SMALL, 32), None),
        (lambda: VisionTransformer('deit-tiny', 32, pre_norm=True), None),
        (lambda: SwinTransformer(SWIN), None),
    ],
)
@torch.no_grad()
def test_networks_of_timm_by_name(tmp_path, monkeypatch, network, expected):
    source = save_run(tmp_path / 'run.pth', network())
    file, *_ = publish(tmp_path / 'run.pth', tmp_path / 'out')
    config = json.loads((tmp_path / 'out' / 'config.json').read_text())
    assert config.get('architecture') == expected
    if expected is None:
        return
    found = timm_model(config['cmid_mm']['backbone'])
    model = timm.create_model(
        found.name, num_classes=0, checkpoint_path=str(file), **found.options
    )
    side = found.options.get('img_size', 224)
    images = torch.randn(1, 3, side, side)
    *stages, ours = cmid_mm.load_backbone(file).backbone(images)
    monkeypatch.chdir(tmp_path / 'out')
    names: dict = {}
    exec(blocks_of(Path('README.md').read_text())[1], names)
    maps = [
        each.permute(0, 3, 1, 2) if 'swin' in found.name else each
        for each in names['maps'].eval()(images)
    ]
    for stage, each in zip(stages, maps[-4:-1], strict=True):
        torch.testing.assert_close(each, stage, rtol=1e-4, atol=1e-3)
    theirs = model.eval().forward_features(images)
    if 'swin' in found.name:
        theirs = theirs.permute(0, 3, 1, 2)
    elif 'vit' in found.name:
        theirs = theirs[:, 1:].transpose(1, 2).reshape(ours.shape)
    elif 'convnext' in found.name:
        ours = ours.mean((2, 3))
        theirs = theirs.mean((2, 3))
        ours, theirs = model.head.norm.weight, source.norm3.weight
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)


def test_command(tmp_path, capsys, monkeypatch):
    save_run(tmp_path / 'run.pth', ResNet(18, base_channels=8))
    script = str(ROOT / 'tools/publish.py')

    def run(*arguments):
        monkeypatch.setattr('sys.argv', [script, *map(str, arguments)])
        runpy.run_path(script, run_name='__main__')

    places = tmp_path / 'run.pth', tmp_path / 'out'
    run(*places, '--source', 'teacher', '--metric', 'OA=91.5', 'cmid-mm test')
    assert 'README.md' in capsys.readouterr().out
    assert '| OA | 91.5 | `cmid-mm test` |' in (tmp_path / 'out/README.md').read_text()
    with pytest.raises(SystemExit, match='--metric 91.5: expected NAME=VALUE'):
        run(*places, '--metric', '91.5', 'cmid-mm test')
