# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import runpy
from pathlib import Path

import mmdet.models
import mmseg.models
import pytest
import torch
import torchvision
from mmengine.config import Config
from mmpretrain.models import (
    ConvNeXt,
    HRNet,
    ResNet,
    SwinTransformer,
    VisionTransformer,
)
from torch import nn

import cmid_mm
from cmid_mm.checkpoints import (
    CheckpointError,
    convert_checkpoint,
    export_backbone,
    exporting,
    load_backbone,
    normalization,
    read_checkpoint,
    stored_reading,
)
from cmid_mm.images import Quality, Reading

ROOT = Path(__file__).parents[2]
SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
VIT = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
CONFIG = Config(
    dict(
        data_preprocessor=dict(mean=[1.5, 2.0, 3.0], std=[4.0, 5.0, 6.0]),
        model=dict(type='CMID'),
    )
).pretty_text


@torch.no_grad()
def save_run(path: Path, backbone: nn.Module) -> nn.Module:
    """Save a backbone as a run's student, a different one as its teacher."""
    torch.manual_seed(0)
    for value in backbone.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.1, 1)
    backbone.eval()
    state = {f'student.backbone.{k}': v for k, v in backbone.state_dict().items()}
    state |= {f'teacher.{k}': v + 1 for k, v in backbone.state_dict().items()}
    state |= {'student.mask_token': torch.ones(8), 'heads.queue': torch.ones(2, 3)}
    torch.save(dict(meta=dict(cfg=CONFIG, epoch=3), state_dict=state), path)
    return backbone


def assert_same_features(module: nn.Module, source: nn.Module, size: int) -> None:
    images = torch.randn(2, 3, size, size)
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(module(images)[-1], source(images)[-1])


@pytest.mark.parametrize('depth', [18, 50])
def test_timm_layout_is_torchvisions(tmp_path, depth):
    source = save_run(tmp_path / 'run.pth', ResNet(depth))
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'timm')
    state = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    module = getattr(torchvision.models, f'resnet{depth}')()
    result = module.load_state_dict(state, strict=False)
    assert result.missing_keys == ['fc.weight', 'fc.bias']
    assert result.unexpected_keys == []
    torch.testing.assert_close(dict(state), dict(source.state_dict()))


@pytest.mark.parametrize('library', [mmdet.models, mmseg.models])
def test_mmdet_layout_by_their_own_initialiser(tmp_path, library):
    source = save_run(tmp_path / 'run.pth', ResNet(18))
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'mmdet')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'out.pth'))
    module = library.ResNet(18, init_cfg=init_cfg)
    module.init_weights()
    assert_same_features(module, source, 64)

    source = save_run(tmp_path / 'run.pth', SwinTransformer(SWIN))
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'mmdet')
    module = library.SwinTransformer(**SWIN, init_cfg=Config(init_cfg))
    module.init_weights()
    assert_same_features(module, source, 224)


def test_vit_for_mmseg(tmp_path):
    source = save_run(
        tmp_path / 'run.pth',
        VisionTransformer(
            VIT,
            img_size=32,
            patch_size=8,
            out_type='featmap',
            norm_cfg=dict(type='LN', eps=1e-5),
            pre_norm=False,
        ),
    )
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'mmdet')
    module = mmseg.models.VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dims=8,
        num_layers=2,
        num_heads=2,
        mlp_ratio=2,
        final_norm=True,
        patch_bias=True,
    )
    state = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    module.load_state_dict(state)
    assert_same_features(module, source, 32)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(pre_norm=True), 'no name for 2 of its weights, such as pre_norm.weight'),
        (dict(layer_scale_init_value=0.1), 'such as layers.0.attn.gamma1.weight'),
        (dict(with_cls_token=False, out_type='featmap'), 'has no cls_token, which mmd'),
    ],
)
def test_vit_that_mmseg_does_not_have(tmp_path, options, message):
    save_run(tmp_path / 'run.pth', VisionTransformer(VIT, img_size=32, **options))
    with pytest.raises(CheckpointError, match=f'{message}.*; use --layout mmpretrain'):
        export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'mmdet')
    assert not (tmp_path / 'out.pth').exists()


def test_mmpretrain_layout_by_its_own_initialiser(tmp_path):
    source = save_run(tmp_path / 'run.pth', SwinTransformer(SWIN))
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth')
    init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'out.pth'), prefix='backbone.'
    )
    module = SwinTransformer(SWIN, init_cfg=init_cfg)
    module.init_weights()
    torch.testing.assert_close(dict(module.state_dict()), dict(source.state_dict()))
    assert_same_features(module, source, 224)


@pytest.mark.parametrize(
    'build',
    [
        lambda: ConvNeXt(
            dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8]),
            out_indices=(1, 3),
            gap_before_final_norm=False,
        ),
        lambda: SwinTransformer(SWIN, out_indices=(1, 3)),
    ],
    ids=['convnext', 'swin'],
)
def test_norms_that_timm_has_no_place_for_are_told(tmp_path, monkeypatch, build):
    said = []
    monkeypatch.setattr(
        exporting, 'print_log', lambda text, *_, **__: said.append(text)
    )
    save_run(tmp_path / 'run.pth', build())
    export_backbone(tmp_path / 'run.pth', tmp_path / 'own.pth')
    assert said == []
    export_backbone(tmp_path / 'run.pth', tmp_path / 'timm.pth', 'timm')
    (text,) = said
    assert 'no place for them' in text and 'norm1.weight' in text
    assert 'relative_position_index' not in text


@pytest.mark.parametrize('layout', ['mmpretrain', 'mmdet', 'timm'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(
    'build',
    [
        lambda: ResNet(18, stem_channels=8, base_channels=8),
        lambda: SwinTransformer(SWIN),
        lambda: VisionTransformer(VIT, img_size=32),
        lambda: ConvNeXt(dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8])),
    ],
    ids=['resnet', 'swin', 'vit', 'convnext'],
)
def test_every_layout_comes_back(tmp_path, layout, suffix, build):
    source = save_run(tmp_path / 'run.pth', build())
    out = tmp_path / f'out{suffix}'
    export_backbone(tmp_path / 'run.pth', out, layout)
    module = build()
    report = load_backbone(module, out)
    torch.testing.assert_close(dict(module.state_dict()), dict(source.state_dict()))
    assert report.unused == []


def test_meta(tmp_path):
    save_run(tmp_path / 'run.pth', ResNet(18, stem_channels=8, base_channels=8))
    meta = export_backbone(
        tmp_path / 'run.pth', tmp_path / 'out.safetensors', 'timm', 'teacher'
    )
    assert meta == dict(
        source='run.pth',
        origin='run of cmid_mm',
        network='teacher',
        layout='timm',
        architecture='ResNet-18 (width 8, 3 input bands)',
        backbone=dict(
            type='mmpretrain.ResNet',
            depth=18,
            in_channels=3,
            stem_channels=8,
            base_channels=8,
            num_stages=4,
            strides=[1, 2, 2, 2],
            dilations=[1, 1, 1, 1],
            out_indices=[0, 1, 2, 3],
            style='pytorch',
        ),
        bands=3,
        mean=[1.5, 2.0, 3.0],
        std=[4.0, 5.0, 6.0],
        cmid_mm_version=cmid_mm.dependencies.__version__,
    )
    assert read_checkpoint(tmp_path / 'out.safetensors')['meta'] == meta
    # An export of the export still knows the bands.
    again = export_backbone(tmp_path / 'out.safetensors', tmp_path / 'again.pth')
    assert again['mean'] == [1.5, 2.0, 3.0]


def test_teacher(tmp_path):
    source = save_run(
        tmp_path / 'run.pth', ResNet(18, stem_channels=8, base_channels=8)
    )
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'timm', 'teacher')
    state = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    torch.testing.assert_close(state['conv1.weight'], source.conv1.weight + 1)


def test_heads_beside_the_backbone_are_left_out(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / 'tv.pth')
    export_backbone(tmp_path / 'tv.pth', tmp_path / 'out.pth')
    names = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    assert len(names) == 120
    assert all(name.startswith('backbone.') and 'fc' not in name for name in names)


def test_backbone_that_begins_like_a_resnet_is_kept_whole(tmp_path):
    extra = dict(
        num_modules=1,
        num_branches=2,
        block='BASIC',
        num_blocks=(1, 1),
        num_channels=(8, 16),
    )
    first = {**extra, 'num_branches': 1, 'num_blocks': (1,), 'num_channels': (16,)}
    third = {**extra, 'num_branches': 3, 'num_blocks': (1,) * 3}
    fourth = {**extra, 'num_branches': 4, 'num_blocks': (1,) * 4}
    arch = dict(
        stage1={**first, 'block': 'BOTTLENECK'},
        stage2=extra,
        stage3={**third, 'num_channels': (8, 16, 32)},
        stage4={**fourth, 'num_channels': (8, 16, 32, 64)},
    )
    net = save_run(tmp_path / 'run.pth', HRNet(arch=None, extra=arch))
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth')
    state = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    assert set(state) == {f'backbone.{name}' for name in net.state_dict()}
    with pytest.raises(CheckpointError, match='no name for'):
        export_backbone(tmp_path / 'run.pth', tmp_path / 'timm.pth', layout='timm')


def test_own_backbone_has_no_timm_names(tmp_path):
    state = {'student.backbone.conv_a.weight': torch.ones(2)}
    torch.save(dict(state_dict=state), tmp_path / 'run.pth')
    export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth')
    exported = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    assert list(exported) == ['backbone.conv_a.weight']
    with pytest.raises(CheckpointError, match='timm names are known for ResNet, Swin'):
        export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'timm')
    with pytest.raises(ValueError, match="layout must be one of .* got 'keras'"):
        export_backbone(tmp_path / 'run.pth', tmp_path / 'out.pth', 'keras')


@pytest.mark.parametrize(
    ('meta', 'expected'),
    [
        (dict(mean=[1.0], std=[2.0]), dict(mean=[1.0], std=[2.0])),
        (
            dict(cfg='model = dict(data_preprocessor=dict(mean=[1], std=(2,)))'),
            dict(mean=[1.0], std=[2.0]),
        ),
        (
            dict(
                cfg='model = dict(data_preprocessor=dict(data_preprocessor='
                'dict(mean=[1], std=[2])))'
            ),
            dict(mean=[1.0], std=[2.0]),
        ),
        # Nothing in a config is run, not even to find a number.
        (dict(cfg='data_preprocessor = dict(mean=[exit()], std=[1])'), {}),
        (dict(cfg='data_preprocessor = dict(type="X")'), {}),
        (dict(cfg='not python'), {}),
        (None, {}),
    ],
)
def test_normalization(meta, expected):
    assert normalization(dict(meta=meta)) == expected


def loading_run(path: Path, **step) -> Path:
    """A run whose pipeline begins with a loading step, as mmengine records it."""
    dataset = dict(type='D', pipeline=[step, dict(type='PackInputs')])
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset)),
        )
    )
    state = ResNet(18, stem_channels=8, base_channels=8).state_dict()
    state = {f'student.backbone.{name}': value for name, value in state.items()}
    torch.save(dict(meta=dict(cfg=cfg.pretty_text), state_dict=state), path)
    return path


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize(
    ('step', 'reading'),
    [
        (
            dict(type='LoadImagery', size=96, bands=[4, 3, 2], value_range=(0, 3000)),
            Reading(3, (4, 3, 2), (0, 3000), 96),
        ),
        (
            dict(
                type='cmid_mm.LoadImagePair',
                num_bands=2,
                value_range=[(-20.5, 0), (-25, 1e-3)],
                nodata=-9999,
            ),
            Reading(2, None, ((-20.5, 0), (-25, 1e-3)), nodata=-9999),
        ),
        (
            dict(
                type='LoadImagery',
                gsd=10,
                quality=dict(file='{stem}_SCL.tif', values=[3, 8]),
            ),
            Reading(gsd=10, quality=Quality('{stem}_SCL.tif', [3, 8])),
        ),
        (dict(type='LoadImageFromFile'), Reading()),
        (dict(type='LoadSomething'), None),
        (dict(type='LoadImagery', bands=[1, 2], num_bands=3), None),
    ],
)
def test_reading_is_exported(tmp_path, suffix, step, reading):
    run = loading_run(tmp_path / 'run.pth', **step)
    assert stored_reading(read_checkpoint(run)) == reading
    for source, target in ((run, f'once{suffix}'), (f'once{suffix}', f'twice{suffix}')):
        export_backbone(tmp_path / source, tmp_path / target)
        exported = read_checkpoint(tmp_path / target)
        assert stored_reading(exported) == reading
        assert ('reading' in exported['meta']) == (reading is not None)


def run(monkeypatch, *arguments):
    script = ROOT / 'tools/export_backbone.py'
    monkeypatch.setattr('sys.argv', [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name='__main__')


def test_command(tmp_path, capsys, monkeypatch):
    save_run(tmp_path / 'run.pth', ResNet(18, stem_channels=8, base_channels=8))
    files = tmp_path / 'run.pth', tmp_path / 'out.pth'
    run(monkeypatch, *files, '--layout', 'timm', '--source', 'teacher')
    assert 'ResNet-18' in capsys.readouterr().out
    assert read_checkpoint(tmp_path / 'out.pth')['meta']['network'] == 'teacher'

    torch.save({'fc.weight': torch.ones(1)}, tmp_path / 'run.pth')
    with pytest.raises(SystemExit, match='error: .*run.pth holds no backbone') as end:
        run(monkeypatch, *files)
    assert '\n' not in str(end.value)


@pytest.mark.parametrize('write', [export_backbone, convert_checkpoint])
@pytest.mark.parametrize('linked', [False, True])
def test_checkpoint_is_not_written_over(tmp_path, write, linked):
    source = target = tmp_path / 'run.pth'
    save_run(source, ResNet(18, stem_channels=4, base_channels=4))
    if linked:
        target = tmp_path / 'link.pth'
        target.symlink_to(source)
    before = source.read_bytes()
    with pytest.raises(CheckpointError, match=r'is the file to read.*another name'):
        write(source, target)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ('mean', 'std'),
    [
        (['a', 'b', 'c'], [1, 1, 1]),
        ('123', '456'),
        ([1.0], [1.0, 2.0]),
        ([1.0], [float('nan')]),
        ([float('inf')], [1.0]),
        ([1.0, 2.0], [1.0, -1.0]),
        ([], []),
        (None, [1.0]),
    ],
)
def test_what_normalises_no_image_is_unknown(mean, std):
    assert normalization(dict(meta=dict(mean=mean, std=std))) == {}


@pytest.mark.parametrize(
    'reading',
    [
        dict(bands='abc'),
        dict(bands=[{}]),
        dict(num_bands='x'),
        dict(value_range=[5, 1]),
        dict(size=[1, 2]),
        dict(nodata='none'),
        dict(unknown=1),
        dict(gsd='fine'),
        dict(gsd=-1),
        dict(quality='a'),
        dict(quality=dict(values=[1])),
        dict(quality=dict(file='a')),
    ],
)
def test_reading_of_other_types_is_unknown(reading):
    assert stored_reading(dict(meta=dict(reading=reading))) is None
