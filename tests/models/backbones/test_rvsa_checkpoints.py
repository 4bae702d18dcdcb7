# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files with RVSA backbones: the release, runs, exports; into the four tasks."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmpretrain.models import VisionTransformer
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from cmid_mm.checkpoints import (
    CheckpointError,
    export_backbone,
    load_backbone,
    match_backbone,
)
from cmid_mm.checkpoints.finding import find_backbone
from cmid_mm.models import RVSAViT, RVSAViTAE
from cmid_mm.models.backbones.rotated_window_attention import resize_relative_vectors
from tests.models.backbones.test_rvsa import TINY, released, tiny
from tests.toy import toy_batch, toy_config

CONFIGS = Path(__file__).parents[3] / 'configs'
BOTH = pytest.mark.parametrize('kind', [RVSAViT, RVSAViTAE])
NAMES = {RVSAViT: 'vit_b_rvsa', RVSAViTAE: 'vitae_b_rvsa'}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.clone()
        for name, value in module.state_dict().items()
        if not name.endswith('relative_position_index')
    }


def save(path: Path, state: dict[str, Tensor], prefix: str = '', **others) -> Path:
    state = {prefix + name: value for name, value in state.items()}
    torch.save(dict(model={**others, **state}, epoch=1), path)
    return path


# -- The release -----------------------------------------------------------------


@BOTH
@pytest.mark.parametrize('prefix', ['', 'encoder.', 'module.backbone.'])
def test_file_of_the_release(tmp_path, kind, prefix):
    # Windows into one block of memory: a small file of distinct tensors.
    numbers = torch.randn(3072 * 768 + 400, generator=torch.manual_seed(0))
    state = {}
    for index, (name, like) in enumerate(released(NAMES[kind]).items()):
        values = numbers[index : index + like.numel()].view(like.shape)
        state[name] = values.to(like.dtype)
    path = save(tmp_path / 'release.pth', state, prefix)
    with torch.device('meta'):
        module = kind()
    found, report = match_backbone(module, path)
    assert report.origin.endswith(f'{kind.__name__} names of the release')
    assert report.unused == [name for name in state if name.startswith('head.')]
    assert not (report.new or report.resized)
    module.load_state_dict(found, strict=False, assign=True)
    for name, value in module.state_dict().items():
        if not name.endswith('relative_position_index'):  # the module's own
            assert torch.equal(value, state[name]), name


@BOTH
def test_architecture_is_told(tmp_path, kind):
    # Tensors of one number, which take no memory.
    shapes = released(NAMES[kind])
    state = {name: torch.zeros(()).expand(t.shape) for name, t in shapes.items()}
    architecture = find_backbone(dict(model=state), 'a.pth').architecture
    assert str(architecture) == f'{kind.__name__} 12 (width 768, 3 input bands)'


# -- Sizes -----------------------------------------------------------------------


@BOTH
def test_tables_are_resized_to_the_module(tmp_path, kind):
    source = tiny(kind)
    path = save(tmp_path / 'a.pth', weights(source))
    module = tiny(kind, img_size=(160, 128))
    report = load_backbone(module, path)
    assert report.resized == [
        'pos_embed',
        *(f'blocks.2.attn.rel_pos_{axis}' for axis in 'hw'),
    ]
    # The same function of the image as without resizing beforehand.
    x = torch.randn(1, 3, 160, 128, dtype=torch.double)
    torch.testing.assert_close(module(x), source(x))


def test_other_windows(tmp_path):
    source = tiny()
    path = save(tmp_path / 'a.pth', weights(source))
    module = tiny(window_size=4)
    report = load_backbone(module, path)
    table = 'blocks.0.attn.relative_position_bias_table'
    assert table in report.resized
    assert module.state_dict()[table].shape == (49, 2)
    torch.testing.assert_close(
        module.blocks[0].attn.rel_pos_h,
        resize_relative_vectors(source.blocks[0].attn.rel_pos_h, 7),
    )


def test_embedding_without_the_class_tokens_place(tmp_path):
    """As in the released models of dense tasks."""
    source = tiny()
    state = weights(source)
    state['pos_embed'] = state['pos_embed'][:, 1:]
    for size in (96, 128):
        module = tiny(img_size=size)
        report = load_backbone(module, save(tmp_path / 'a.pth', state))
        assert 'pos_embed' in report.resized
        x = torch.randn(1, 3, size, size, dtype=torch.double)
        torch.testing.assert_close(module(x), source(x))


def test_pyramid_may_be_new_or_be_left(tmp_path):
    path = save(tmp_path / 'plain.pth', weights(tiny()))
    pyramid = tiny(out_type='pyramid', out_indices=(0, 1, 2, 3))
    before = weights(pyramid)
    report = load_backbone(pyramid, path)
    assert len(report.new) == 8
    assert all(name.startswith('fpn') for name in report.new)
    for name in report.new:
        assert torch.equal(pyramid.state_dict()[name], before[name])
    path = save(tmp_path / 'pyramid.pth', before)
    assert not load_backbone(pyramid, path).new
    report = load_backbone(tiny(final_norm=False), path)
    assert sorted({name.split('.')[0] for name in report.unused}) == [
        'fpn1',
        'fpn2',
        'norm',
    ]


# -- What does not fit -----------------------------------------------------------


@pytest.mark.parametrize(
    ('source', 'target', 'message'),
    [
        (
            lambda: tiny(RVSAViTAE),
            lambda: tiny(),
            r"holds a RVSAViTAE.*, the module is a RVSAViT .*type='RVSAViTAE', "
            r'embed_dims=16, depth=4',
        ),
        (
            lambda: tiny(),
            lambda: tiny(RVSAViTAE),
            "holds a RVSAViT .*, the module is a RVSAViTAE .*type='RVSAViT'",
        ),
        (
            lambda: VisionTransformer(
                dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=64),
                img_size=96,
            ),
            lambda: tiny(),
            'holds a ViT .*, the module is a RVSAViT ',
        ),
        (
            lambda: tiny(),
            lambda: tiny(in_channels=4),
            "input bands: the file has 3, the module 4; set the backbone's",
        ),
        (
            lambda: tiny(depth=6),
            lambda: tiny(),
            'depth: the file holds a RVSAViT 6, the module is a RVSAViT 4',
        ),
        (
            lambda: tiny(final_norm=False),
            lambda: tiny(),
            r'not in the file: 2 \(norm.weight, norm.bias\)',
        ),
    ],
)
def test_other_files_are_refused(tmp_path, source, target, message):
    path = save(tmp_path / 'a.pth', weights(source()))
    module = target()
    before = weights(module)
    with pytest.raises(CheckpointError, match=message):
        load_backbone(module, path)
    torch.testing.assert_close(weights(module), before)


def test_tables_of_another_side_ratio(tmp_path):
    # 24 positions and the class token's place: not to be taken for 5 x 5.
    source = tiny(img_size=(96, 64))
    path = save(tmp_path / 'a.pth', weights(source))
    module = tiny()
    load_backbone(module, path)
    x = torch.randn(1, 3, 96, 96, dtype=torch.double)
    torch.testing.assert_close(module(x), source(x))


def test_embedding_that_fits_no_grid(tmp_path):
    state = weights(tiny())
    state['pos_embed'] = torch.zeros(1, 50, 16)
    path = save(tmp_path / 'a.pth', state)
    with pytest.raises(CheckpointError, match='pos_embed 1x50x16 in the file, 1x65x16'):
        load_backbone(tiny(img_size=128), path)


# -- From pre-training to the tasks ----------------------------------------------


def pretrain(folder: Path, kind: type[RVSAViT]) -> Path:
    """A step of CMID; returns the run's checkpoint."""
    backbone = dict(type=kind.__name__, **{**TINY, 'img_size': 64})
    config = toy_config(
        encoder=dict(
            backbone=backbone,
            insert_after='patch_embed',
            channels=16,
            stride=16,
            token_std=0.02,
        )
    )
    config['heads']['reconstruction'].update(in_channels=16, stride=16)
    config['heads']['contrastive']['in_channels'] = 16
    config['heads']['assignment'].update(in_channels=16, batch_norm=False)
    model = MODELS.build(config)
    model.init_weights()
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='AdamW', lr=1e-2)))
    before = {k: v.clone() for k, v in model.student.named_parameters()}
    losses = model.train().train_step(toy_batch(), wrapper)
    assert all(value.isfinite().all() for value in losses.values())
    still = [k for k, v in model.student.named_parameters() if v.equal(before[k])]
    assert still == []
    model.update_teacher(0.5)
    path = folder / 'run.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), path)
    return path


def shrink(name: str, kind: type[RVSAViT], checkpoint: Path) -> Config:
    name = name.replace('vit', kind.__name__.removeprefix('RVSA').lower())
    cfg = Config.fromfile(CONFIGS / name)
    backbone = cfg.model.backbone
    assert backbone.type == kind.__name__
    backbone.update({**TINY, 'img_size': 64})
    backbone.init_cfg = dict(type='PretrainedBackbone', checkpoint=str(checkpoint))
    if backbone.get('out_type') == 'pyramid':
        backbone.out_indices = (0, 1, 2, 3)
    return cfg


def pixels(*size: int) -> Tensor:
    return torch.randint(0, 256, size, dtype=torch.uint8)


def classification(cfg: Config) -> dict:
    cfg.model.head.in_channels = 16
    cfg.model.data_preprocessor = cfg.data_preprocessor
    # Soft labels of its augmentations need several samples.
    samples = [DataSample().set_gt_label(index) for index in (3, 7)]
    return dict(inputs=[pixels(3, 64, 64)] * 2, data_samples=samples)


def segmentation(cfg: Config) -> dict:
    from mmseg.structures import SegDataSample

    cfg.model.decode_head.update(in_channels=[16] * 4, channels=8)
    cfg.model.auxiliary_head.update(in_channels=16, channels=8)
    cfg.model.data_preprocessor.size = (64, 64)
    samples = []
    for _ in range(2):
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, 64, 64)))
        samples.append(sample)
    return dict(inputs=[pixels(3, 64, 64)] * 2, data_samples=samples)


def detection(cfg: Config) -> dict:
    pytest.importorskip('mmcv.ops')
    from mmdet.structures import DetDataSample
    from mmrotate.structures import RotatedBoxes

    cfg.model.neck.in_channels = [16] * 4
    sample = DetDataSample(
        metainfo=dict(img_shape=(64, 64), scale_factor=(1.0, 1.0), img_id=0)
    )
    boxes = RotatedBoxes(torch.tensor([[30.0, 30, 24, 12, 0.3]]))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1]))
    sample.ignored_instances = InstanceData(
        bboxes=RotatedBoxes(torch.zeros(0, 5)), labels=torch.zeros(0, dtype=torch.long)
    )
    return dict(inputs=[pixels(3, 64, 64)], data_samples=[sample])


def change_detection(cfg: Config) -> dict:
    from mmseg.structures import SegDataSample

    cfg.model.decode_head.in_channels = 16
    cfg.model.data_preprocessor.size = (64, 64)
    sample = SegDataSample()
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, 64, 64)))
    return dict(inputs=[pixels(6, 64, 64)] * 2, data_samples=[sample] * 2)


@BOTH
@pytest.mark.parametrize(
    ('scope', 'name', 'prepare'),
    [
        ('mmpretrain', 'classification/rvsa-vit-b_ucmerced.py', classification),
        ('mmseg', 'segmentation/upernet_rvsa-vit-b_potsdam.py', segmentation),
        ('mmrotate', 'detection/oriented-rcnn_rvsa-vit-b_dota.py', detection),
        ('mmseg', 'change_detection/bit_rvsa-vit-b_levir-cd.py', change_detection),
    ],
)
def test_export_of_a_run_trains_in_every_task(tmp_path, kind, scope, name, prepare):
    run = pretrain(tmp_path, kind)
    meta = export_backbone(run, tmp_path / 'out.pth')
    assert meta['architecture'].startswith(f'{kind.__name__} 4 (width 16')
    exported = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    student = torch.load(run, weights_only=True)['state_dict']
    assert exported.keys() == {
        'backbone.' + key.removeprefix('student.backbone.')
        for key in student
        if key.startswith('student.backbone.')
    }

    init_default_scope(scope)
    if scope == 'mmrotate':
        pytest.importorskip('mmrotate.registry')
    cfg = shrink(name, kind, tmp_path / 'out.pth')
    batch = prepare(cfg)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    for key, value in weights(model.backbone).items():
        if not key.startswith('fpn'):
            assert torch.equal(value, student[f'student.backbone.{key}']), key
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {k: v.clone() for k, v in model.backbone.named_parameters()}
    losses = model.train().train_step(batch, wrapper)
    assert losses['loss'].isfinite()
    still = [k for k, v in model.backbone.named_parameters() if v.equal(before[k])]
    assert still == []


@pytest.mark.parametrize('layout', ['mmpretrain', 'mmdet'])
def test_export_leaves_the_head_of_a_classifier(tmp_path, layout):
    others = {'head.weight': torch.ones(2, 16), 'head.bias': torch.ones(2)}
    path = save(tmp_path / 'a.pth', weights(tiny()), **others)
    export_backbone(path, tmp_path / 'out.pth', layout)
    state = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    prefix = 'backbone.' if layout == 'mmpretrain' else ''
    assert state.keys() == {prefix + name for name in weights(tiny())}


def test_there_are_no_timm_names(tmp_path):
    path = save(tmp_path / 'a.pth', weights(tiny()))
    with pytest.raises(CheckpointError, match='timm names are known for ResNet'):
        export_backbone(path, tmp_path / 'out.pth', 'timm')


# -- Rates by depth --------------------------------------------------------------


def test_rates_fall_with_depth_in_models_that_do_not_know_theirs():
    model = nn.Module()
    model.backbone = tiny()
    model.decode_head = nn.Linear(2, 2)
    config = dict(
        constructor='BackboneLayerDecayConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
        paramwise_cfg=dict(
            layer_decay_rate=0.5,
            flat_decay_mult=0.0,
            custom_keys=dict(pos_embed=dict(decay_mult=0.0)),
        ),
    )
    groups = build_optim_wrapper(model, config).optimizer.param_groups
    settings = {g['param_name']: (g['lr'], g['weight_decay']) for g in groups}
    assert settings['backbone.pos_embed'] == (1 / 32, 0)
    assert settings['backbone.patch_embed.proj.weight'] == (1 / 32, 0.05)
    assert settings['backbone.blocks.0.attn.proj.weight'] == (1 / 16, 0.05)
    assert settings['backbone.blocks.3.attn.proj.bias'] == (1 / 2, 0)
    assert settings['decode_head.weight'] == (1, 0.05)
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ValueError, match='Linear has no get_layer_depth'):
        build_optim_wrapper(model, config)
