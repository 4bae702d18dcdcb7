# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import mmdet.models
import mmseg.models
import pytest
import torch
import torchvision
from mmpretrain.models import (
    ConvNeXt,
    ResNet,
    ResNetV1c,
    SwinTransformer,
    VisionTransformer,
)
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from cmid_mm.checkpoints import (
    CheckpointError,
    export_backbone,
    finding,
    load_backbone,
    match_backbone,
)
from cmid_mm.checkpoints.families import LAYOUTS
from cmid_mm.checkpoints.finding import abbreviate, find_backbone

SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2])
VIT = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)


def resnet(depth: int = 18, **kwargs) -> ResNet:
    return ResNet(depth, stem_channels=8, base_channels=8, **kwargs)


def vit(img_size: int = 32, **kwargs) -> VisionTransformer:
    return VisionTransformer(
        VIT, img_size=img_size, patch_size=8, out_type='featmap', **kwargs
    )


def dense_swin(library, **kwargs):
    """The Swin of mmdet or mmseg, small."""
    return library.SwinTransformer(
        embed_dims=8, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 2), **kwargs
    )


@torch.no_grad()
def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    module.eval()  # returns nothing for some of OpenMMLab's
    return module


def save(path: Path, state: dict[str, Tensor], prefix: str = '', **others) -> Path:
    state = {prefix + name: value for name, value in state.items()}
    torch.save(dict(state_dict={**others, **state}), path)
    return path


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.clone()
        for name, value in module.state_dict().items()
        if not name.endswith('relative_position_index')
    }


def assert_loads(module: nn.Module, path: Path, expected: dict[str, Tensor], **kwargs):
    randomize(module, seed=1)
    report = load_backbone(module, path, **kwargs)
    torch.testing.assert_close(weights(module), expected, rtol=0, atol=0)
    return report


@pytest.mark.parametrize(
    ('prefix', 'origin'),
    [
        ('student.backbone.', 'run of cmid_mm'),
        ('online_encoder.model.', 'published CMID checkpoint'),
        ('module.backbone.', 'OpenMMLab checkpoint'),
        ('encoder_q.', 'MoCo checkpoint'),
        ('', 'plain state dict'),
    ],
)
def test_student_of_every_origin(tmp_path, prefix, origin):
    expected = weights(randomize(resnet()))
    path = save(tmp_path / 'a.pth', expected, prefix)
    report = assert_loads(resnet(), path, expected)
    assert report.origin.startswith(origin)
    assert report.loaded == len(expected) == 122 - 2
    assert not (report.new or report.unused or report.resized)


@pytest.mark.parametrize(
    ('student', 'teacher'),
    [
        ('student.backbone.', 'teacher.'),
        ('online_encoder.model.', 'branch_encoder.'),
        ('backbone.', 'encoder_k.module.0.'),
        ('backbone.', 'target_net.module.0.'),
    ],
)
def test_teacher(tmp_path, student, teacher):
    expected = weights(randomize(resnet(), seed=7))
    others = {student + k: v for k, v in weights(randomize(resnet())).items()}
    path = save(tmp_path / 'a.pth', expected, teacher, **others)
    assert_loads(resnet(), path, expected, source='teacher')


def test_file_without_teacher(tmp_path):
    path = save(tmp_path / 'a.pth', weights(resnet()), 'backbone.')
    with pytest.raises(CheckpointError, match=r'no teacher.*\(backbone: 120\)'):
        load_backbone(resnet(), path, 'teacher')
    with pytest.raises(CheckpointError, match="no both .*source='student' .state_dict"):
        load_backbone(resnet(), path, 'both')


@pytest.mark.parametrize('key', ['state_dict', 'model', None])
def test_nesting(tmp_path, key):
    state = weights(randomize(resnet()))
    torch.save({key: state} if key else state, tmp_path / 'a.pth')
    assert_loads(resnet(), tmp_path / 'a.pth', state)


def test_torchvision_resnet_gives_its_features(tmp_path):
    torch.manual_seed(0)
    source = torchvision.models.resnet18().eval()
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    module = randomize(ResNet(18), seed=1)
    report = load_backbone(module, tmp_path / 'a.pth')
    assert report.unused == ['fc.weight', 'fc.bias']
    source.fc = nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(module(images)[-1].mean((2, 3)), source(images))


def test_report_is_one_line(tmp_path):
    state = weights(randomize(SwinTransformer(SWIN)))
    path = save(tmp_path / 'a.pth', state, 'student.backbone.')
    report = str(load_backbone(dense_swin(mmseg.models), path))
    assert report == (
        f'Loaded {len(state)} backbone tensors from {path} (run of cmid_mm, Swin names '
        'of mmpretrain, mmdet and mmseg); kept at their initial value: 6 '
        '(norm0.weight, norm0.bias, norm1.weight, norm1.bias, norm2.weight and 1 more)'
    )


@pytest.mark.parametrize('library', [mmdet.models, mmseg.models])
def test_dense_swin_gives_the_same_features(tmp_path, library):
    source = randomize(SwinTransformer(SWIN))
    path = save(tmp_path / 'a.pth', source.state_dict(), 'student.backbone.')
    module = dense_swin(library)
    module.eval()
    report = load_backbone(module, path)
    assert len(report.new) == 6
    assert {name.split('.')[0] for name in report.new} == {'norm0', 'norm1', 'norm2'}
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(module(images)[-1], source(images)[-1])


@pytest.mark.parametrize('library', [mmdet.models, mmseg.models])
def test_dense_resnet(tmp_path, library):
    expected = weights(randomize(ResNet(18)))
    path = save(tmp_path / 'a.pth', expected, 'backbone.')
    assert_loads(library.ResNet(18), path, expected)


def test_deep_stem_into_mmseg(tmp_path):
    source = randomize(ResNetV1c(depth=18))
    path = save(tmp_path / 'a.pth', source.state_dict(), 'backbone.')
    module = mmseg.models.ResNetV1c(depth=18)
    module.eval()
    load_backbone(module, path)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(module(images)[-1], source(images)[-1])


def test_vit_into_mmseg_gives_the_same_features(tmp_path):
    source = randomize(vit(interpolate_mode='bilinear'))
    path = save(tmp_path / 'a.pth', source.state_dict(), 'backbone.')
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
    module.eval()
    load_backbone(module, path)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(module(images)[-1], source(images)[-1])


@pytest.mark.parametrize(
    'build',
    [
        lambda: SwinTransformer(SWIN),
        vit,
        lambda: ConvNeXt(
            dict(depths=[1, 1, 2, 1], channels=[4, 4, 8, 8]),
            gap_before_final_norm=False,
        ),
    ],
)
def test_every_layout_of_a_family(tmp_path, build):
    source = randomize(build())
    family = find_backbone(source.state_dict(), '-').layout.family
    layouts = [layout for layout in LAYOUTS if layout.family == family]
    assert len(layouts) > 1
    for index, layout in enumerate(layouts):
        state = layout.from_mmpretrain(source.state_dict())
        path = save(tmp_path / f'{index}.pth', state, head=torch.ones(1))
        report = assert_loads(build(), path, weights(source))
        assert layout.name in report.origin
        assert report.unused == ['head']


def test_backbone_of_an_unknown_family_by_its_own_names(tmp_path):
    build = lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))  # noqa: E731
    expected = weights(randomize(build()))
    path = save(tmp_path / 'a.pth', expected, 'student.backbone.')
    assert_loads(build(), path, expected)
    with pytest.raises(CheckpointError, match=r'not in the file: 1 \(0\.bias\)'):
        del expected['0.bias']
        load_backbone(build(), save(path, expected, 'student.backbone.'))


def test_failure_leaves_the_module_as_it_was(tmp_path):
    state = weights(randomize(resnet()))
    del state['layer4.1.bn2.bias']
    module = randomize(resnet(), seed=1)
    before = weights(module)
    with pytest.raises(
        CheckpointError,
        match=r'nothing was loaded: not in the file: 1 \(layer4\.1\.bn2',
    ):
        load_backbone(module, save(tmp_path / 'a.pth', state))
    torch.testing.assert_close(weights(module), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ('source', 'module', 'message'),
    [
        (resnet(34), resnet(18), 'file holds a ResNet-34, the module is a ResNet-18'),
        (resnet(18), resnet(34), 'file holds a ResNet-18, the module is a ResNet-34'),
        (resnet(), ResNetV1c(depth=18, base_channels=8), "plain 7x7.*type='ResNet'"),
        (resnet(), mmseg.models.ResNetV1c(depth=18), "plain 7x7.*type='ResNet'"),
        (
            resnet(in_channels=4),
            resnet(),
            r'the file has 4, the module 3; .*conv1\.weight 8x4x7x7 in the file, '
            '8x3x7x7 in the module',
        ),
        (SwinTransformer(SWIN), resnet(), 'holds a Swin 1-1-2-1 .* is a ResNet-18'),
        (
            SwinTransformer({**SWIN, 'depths': [1, 1, 3, 1]}),
            SwinTransformer(SWIN),
            r'Swin 1-1-3-1, .*in the file but not in the module: 13 \(stages\.2',
        ),
        (nn.ModuleDict(dict(fc=nn.Linear(2, 2))), resnet(), r'whose .* 1 \(fc: 2\)'),
        (resnet(), nn.ModuleDict(dict(backbone=resnet())), "on the model's backbone"),
    ],
)
def test_misfits_are_diagnosed(tmp_path, source, module, message):
    path = save(tmp_path / 'a.pth', source.state_dict())
    with pytest.raises(CheckpointError, match=message) as error:
        load_backbone(module, path)
    assert '\n' not in str(error.value)


def test_known_reasons_shorten_the_lists(tmp_path):
    path = save(tmp_path / 'a.pth', resnet(34).state_dict())
    with pytest.raises(
        CheckpointError, match=r'\(layer1\.2\.conv1\.weight and 79 more'
    ):
        load_backbone(resnet(18), path)


def test_vit_of_mmseg_lacks_a_bias(tmp_path):
    path = save(tmp_path / 'a.pth', vit().state_dict(), 'student.backbone.')
    module = mmseg.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dims=8, num_layers=2, num_heads=2, mlp_ratio=2
    )
    with pytest.raises(CheckpointError, match='with patch_bias=True'):
        load_backbone(module, path)


def bottlenecks(style: str = 'pytorch') -> nn.Module:
    return mmdet.models.ResNet(50, stem_channels=8, base_channels=4, style=style)


@pytest.mark.parametrize(
    ('prefix', 'others'),
    [
        ('student.backbone.', {}),
        ('', {'fc.weight': torch.ones(1)}),
        ('backbone.', {}),
    ],
)
def test_strides_of_the_caffe_style_are_refused(tmp_path, prefix, others):
    path = save(tmp_path / 'a.pth', bottlenecks().state_dict(), prefix, **others)
    if prefix == 'backbone.':
        assert load_backbone(bottlenecks('caffe'), path).loaded == 318  # may be Caffe's
        path = tmp_path / 'b.pth'
        export_backbone(tmp_path / 'a.pth', path)
    with pytest.raises(CheckpointError, match=r"style='caffe' .*style='pytorch'"):
        load_backbone(bottlenecks('caffe'), path)
    assert load_backbone(bottlenecks(), path).loaded == 318
    # Blocks of two convolutions have their stride in the same one in both styles.
    path = save(tmp_path / 'c.pth', resnet().state_dict(), 'student.backbone.')
    load_backbone(resnet(style='caffe'), path)


def test_matching_changes_nothing(tmp_path):
    expected = weights(randomize(resnet()))
    module = randomize(resnet(), seed=1)
    before = weights(module)
    path = save(tmp_path / 'a.pth', expected)
    state, report = match_backbone(module, path)
    torch.testing.assert_close(weights(module), before, rtol=0, atol=0)
    torch.testing.assert_close(state, expected, rtol=0, atol=0)
    assert report.loaded == 120


def test_no_weights(tmp_path):
    torch.save(dict(state_dict={}, meta=dict(epoch=1)), tmp_path / 'a.pth')
    with pytest.raises(
        CheckpointError, match=r'holds no weights.*found 2 \(state_dict, meta\)'
    ):
        load_backbone(resnet(), tmp_path / 'a.pth')
    torch.save(dict(epoch=1), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'holds no weights.*found 1 \(epoch\)'):
        load_backbone(resnet(), tmp_path / 'a.pth')


def test_last_norm_must_be_in_the_file(tmp_path):
    state = weights(SwinTransformer(SWIN))
    del state['norm3.weight']
    with pytest.raises(CheckpointError, match=r'not in the file: 1 \(norm3\.weight\)'):
        load_backbone(dense_swin(mmdet.models), save(tmp_path / 'a.pth', state))


def test_earlier_norms_in_the_file_are_used(tmp_path):
    source = randomize(dense_swin(mmdet.models))
    path = save(tmp_path / 'a.pth', source.state_dict(), 'backbone.')
    report = assert_loads(dense_swin(mmseg.models), path, weights(source))
    assert report.new == []


def test_first_stages_only(tmp_path):
    state = weights(randomize(resnet()))
    module = resnet(
        num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)
    )
    report = load_backbone(module, save(tmp_path / 'a.pth', state))
    assert len(report.unused) == sum(name.startswith('layer4') for name in state)
    torch.testing.assert_close(module.conv1.weight, state['conv1.weight'])

    state = weights(randomize(SwinTransformer(SWIN)))
    first = {
        name: values[:3] if name != 'embed_dims' else 8 for name, values in SWIN.items()
    }
    module = SwinTransformer(first, out_indices=(2,))
    report = load_backbone(module, save(tmp_path / 'a.pth', state))
    assert {name[:10] for name in report.unused} == {
        'stages.2.d', 'stages.3.b', 'norm3.weig', 'norm3.bias'
    }  # fmt: skip


def test_old_files_lack_counters(tmp_path):
    state = weights(randomize(resnet()))
    state = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
    report = load_backbone(resnet(), save(tmp_path / 'a.pth', state))
    assert report.loaded == 100


def test_window_size_is_interpolated(tmp_path):
    state = weights(SwinTransformer(SWIN))
    name = 'stages.1.blocks.0.attn.w_msa.relative_position_bias_table'
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, 13)] * 2, indexing='ij')
    state[name] = torch.stack((rows, columns), -1).flatten(0, 1)  # 169 2
    module = dense_swin(mmdet.models, window_size=12)
    report = load_backbone(module, save(tmp_path / 'a.pth', state))
    assert len(report.resized) == 5
    table = module.get_parameter(name).detach().unflatten(0, (23, 23))
    # Head 0 knows the row, head 1 the column, 0 for a position's bias on itself.
    torch.testing.assert_close(table[..., 0].t(), table[..., 1])
    torch.testing.assert_close(table.flip(0, 1), -table)
    assert (table[:, :, 0].diff(dim=0) > 0).all()
    assert table[0, 0, 0] == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize('with_cls_token', [True, False])
def test_image_size_of_vit_is_interpolated(tmp_path, with_cls_token):
    source = randomize(vit(32))
    module = vit((48, 32), with_cls_token=with_cls_token)
    path = save(tmp_path / 'a.pth', source.state_dict())
    report = load_backbone(module, path)
    assert report.resized == ['pos_embed']
    assert report.unused == ([] if with_cls_token else ['cls_token'])
    expected = resize_pos_embed(source.pos_embed, (4, 4), (6, 4))
    expected = expected if with_cls_token else expected[:, 1:]
    torch.testing.assert_close(module.pos_embed, expected)


def test_position_embedding_of_another_width_is_an_error(tmp_path):
    state = weights(vit())
    state['pos_embed'] = torch.ones(1, 10, 16)
    with pytest.raises(CheckpointError, match='pos_embed 1x10x16 in the file, 1x17x8'):
        load_backbone(vit(), save(tmp_path / 'a.pth', state))


def test_abbreviate():
    assert abbreviate(['a', 'b']) == '2 (a, b)'
    assert abbreviate(list('abcdefg')) == '7 (a, b, c, d, e and 2 more)'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda kernel: kernel / 0, r'layer1\.0\.conv1\.weight has NaN or infinite'),
        (lambda kernel: kernel.to(torch.int8), r'layer1\.0\.conv1\.weight is int8'),
        (Tensor.to_sparse, r'layer1\.0\.conv1\.weight is a tensor of torch\.sparse'),
        (lambda kernel: kernel.to('meta'), r'conv1\.weight is a tensor of the meta'),
    ],
)
def test_weights_without_usable_numbers_are_refused(tmp_path, change, message):
    state = randomize(resnet()).state_dict()
    state['layer1.0.conv1.weight'] = change(state['layer1.0.conv1.weight'])
    path = save(tmp_path / 'a.pth', state)
    with pytest.raises(CheckpointError, match=rf'a\.pth.*{message}'):
        load_backbone(resnet(), path)
    with pytest.raises(CheckpointError, match=rf'a\.pth.*{message}'):
        export_backbone(path, tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_numbers_of_other_precision_are_loaded(tmp_path):
    source = randomize(resnet())
    path = save(tmp_path / 'a.pth', source.double().state_dict())
    module = resnet()
    load_backbone(module, path)
    torch.testing.assert_close(
        module.conv1.weight, source.conv1.weight, check_dtype=False
    )


def test_arrays_are_called_arrays(tmp_path):
    state = {name: value.numpy() for name, value in resnet().state_dict().items()}
    path = save(tmp_path / 'a.pth', state)
    with pytest.raises(CheckpointError, match=r'a\.pth holds 120 arrays of NumPy'):
        load_backbone(resnet(), path)


def test_choice_among_equal_networks_is_a_warning(tmp_path, monkeypatch):
    state = resnet().state_dict()
    two = {f'{p}.{k}': v for p in ('net1', 'net2') for k, v in state.items()}
    path, said = save(tmp_path / 'a.pth', two), []
    monkeypatch.setattr(finding, 'print_log', lambda text, *_, **__: said.append(text))
    load_backbone(resnet(), path)
    export_backbone(path, tmp_path / 'out.pth')
    assert len(said) == 2 and said[0] == said[1]
    assert said[0].endswith("net1, other choices: source='state_dict.net2'")
    load_backbone(resnet(), path, 'net2')
    pair = {f'{p}.{k}': v for p in ('net', 'net_ema') for k, v in state.items()}
    load_backbone(resnet(), save(tmp_path / 'b.pth', pair))
    assert len(said) == 2
