# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch.utils._python_dispatch import TorchDispatchMode

from cmid_mm.models import ReconstructionHead
from tests.toy import SMALL_VIT, toy_batch, toy_config, toy_model

CONFIGS = Path(__file__).parents[3] / 'configs' / 'cmid'
LOSSES = ('loss_spatial', 'loss_frequency', 'loss_contrastive', 'loss_assignment')


def losses_of(model, batch):
    return model(**model.data_preprocessor(batch), mode='loss')


def test_student_sees_masked_views_and_teacher_full_ones():
    model = toy_model()
    seen = {'student': [], 'teacher': []}
    model.student.backbone.register_forward_pre_hook(
        lambda module, inputs: seen['student'].append(inputs[0])
    )
    model.teacher.register_forward_pre_hook(
        lambda module, inputs: seen['teacher'].append(inputs[0])
    )
    views = model.data_preprocessor(toy_batch())
    losses = model(**views, mode='loss')
    for role, name in (('student', 'masked_images'), ('teacher', 'images')):
        assert len(seen[role]) == 2  # each view is a batch of its own
        for given, expected in zip(seen[role], views[name], strict=True):
            assert torch.equal(given, expected)
    assert set(LOSSES) <= set(losses)
    assert all(torch.isfinite(value) for value in losses.values())


def test_one_view_pair_is_enough_without_batch_norm():
    model = toy_model()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    losses = losses_of(model, toy_batch(batch=1))
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize('size', [64, 96, 160])
def test_other_image_sizes(size):
    losses = losses_of(toy_model(), toy_batch(size=size, patch=32))
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize('bands', [1, 4, 10])
def test_band_count_follows_the_preprocessor(bands):
    model = toy_model(data_preprocessor=dict(mean=[100.0] * bands, std=[50.0] * bands))
    assert model.student.backbone.conv1.in_channels == bands
    assert model.heads['reconstruction'].decoder[0].out_channels == bands * 32**2
    losses_of(model, toy_batch(bands=bands))['loss_spatial'].backward()
    panels = model.reconstruct(toy_batch(bands=bands))
    assert panels['reconstruction'].shape == (4, bands, 64, 64)


@MODELS.register_module()
class OtherReconstructionHead(ReconstructionHead):
    """A head of somebody's own, by another name."""

    def __init__(self, *args, extra=1, **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize(
    'kind',
    [
        ReconstructionHead,
        'OtherReconstructionHead',
        'cmid_mm.models.ReconstructionHead',
    ],
)
def test_what_a_head_measures_does_not_depend_on_its_name(kind):
    heads = dict(reconstruction=dict(type=kind))
    model = toy_model(
        heads=heads, data_preprocessor=dict(mean=[100.0] * 4, std=[50.0] * 4)
    )
    decoder = model.heads['reconstruction'].decoder[0]
    assert (decoder.in_channels, decoder.out_channels) == (64, 4 * 32**2)
    losses_of(model, toy_batch(bands=4))


def test_what_is_left_out_is_measured_and_changes_nothing():
    config = toy_config()
    for name in ('channels', 'stride'):
        del config['encoder'][name]
    for head in config['heads'].values():
        del head['in_channels']
    batch = toy_batch()
    expected = losses_of(toy_model(), batch)
    measured = losses_of(
        toy_model(encoder=config['encoder'], heads=config['heads']), batch
    )
    for name in LOSSES:
        assert torch.equal(measured[name], expected[name])


def test_heads_of_a_backbone_of_another_width_and_stride():
    config = toy_config(
        encoder=dict(
            backbone=dict(
                type='VisionTransformer',
                arch=SMALL_VIT,
                img_size=64,
                patch_size=8,
                out_type='featmap',
            ),
            insert_after='patch_embed',
        )
    )
    for head in config['heads'].values():
        del head['in_channels']
    model = toy_model(encoder=config['encoder'], heads=config['heads'])
    assert model.student.mask_token.shape == (48,)
    assert model.student.stride == 8
    assert model.heads['reconstruction'].decoder[0].weight.shape[:2] == (3 * 64, 48)
    losses_of(model, toy_batch(patch=16))


def test_a_given_number_is_kept():
    heads = toy_config()['heads']
    heads['contrastive']['in_channels'] = 63
    model = toy_model(heads=heads)
    assert model.heads['contrastive'].student_projector[0].in_features == 63


def test_head_left_out_costs_nothing():
    heads = toy_config()['heads']
    model = toy_model(heads={'reconstruction': heads['reconstruction']})
    assert model.teacher is None
    losses = losses_of(model, toy_batch())
    assert {name for name in losses if 'loss' in name} == set(LOSSES[:2])
    del heads['reconstruction']
    losses = losses_of(toy_model(heads=heads), toy_batch())
    assert {name for name in losses if 'loss' in name} == set(LOSSES[2:])


def test_byol_head_is_a_config_swap():
    heads = toy_config()['heads']
    heads['contrastive'] = dict(
        type='BYOLHead', in_channels=64, hidden_channels=32, out_channels=16
    )
    model = toy_model(heads=heads)
    losses_of(model, toy_batch())['loss_contrastive'].backward()
    assert model.heads['contrastive'].predictor[0].weight.grad is not None


def test_warm_up_epochs_train_without_the_local_branch():
    heads = toy_config()['heads']
    heads['assignment']['start_epoch'] = 2
    model = toy_model(heads=heads)
    assert 'loss_assignment' not in losses_of(model, toy_batch())
    MessageHub.get_current_instance().update_info('epoch', 2)
    assert 'loss_assignment' in losses_of(model, toy_batch())


def test_teacher_starts_as_a_copy_and_follows_parameters_only():
    model = toy_model()
    pairs = [
        (name, student, teacher)
        for source, target in model.teacher_pairs()
        for (name, student), teacher in zip(
            source.named_parameters(), target.parameters(), strict=True
        )
    ]
    assert len(pairs) > 70
    assert all(torch.equal(student, teacher) for _, student, teacher in pairs)
    with torch.no_grad():
        for _, student, _ in pairs:
            student.add_(1.0)
    before = {name: teacher.clone() for name, _, teacher in pairs}
    buffers = {k: v.clone() for k, v in model.teacher.named_buffers()}
    model.student.backbone.bn1.running_mean.add_(3.0)
    model.update_teacher(0.75)
    for name, _, teacher in pairs:
        torch.testing.assert_close(teacher, before[name] + 0.25)
    for name, value in model.teacher.named_buffers():
        assert torch.equal(value, buffers[name]), name


def test_momentum_schedule():
    model = toy_model()
    assert model.momentum_at(0, 100) == pytest.approx(0.996)
    assert model.momentum_at(50, 100) == pytest.approx(0.998)
    assert model.momentum_at(100, 100) == pytest.approx(1.0)
    assert toy_model(momentum=0.9).momentum_at(50, 100) == pytest.approx(0.95)


def test_collapse_shows_in_feature_std():
    from cmid_mm.models.selfsup.cmid import feature_std

    spread = torch.randn(512, 64, 1, 1)
    assert feature_std((spread, spread)).item() == pytest.approx(1.0, abs=0.02)
    same = torch.ones(8, 64, 1, 1)
    assert feature_std((same, same)).item() == pytest.approx(0.0, abs=1e-6)


class HostReads(TorchDispatchMode):
    """Collects operations whose result the host must wait for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if any(part in name for part in ('_local_scalar_dense', 'nonzero', 'is_same')):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_loss_never_waits_for_the_device():
    model = toy_model()
    views = model.data_preprocessor(toy_batch())
    with HostReads() as reads:
        model(**views, mode='loss')
    assert reads.found == []
    with HostReads() as reads:
        views['images'][0].sum().item()  # the detector itself works
    assert reads.found


def test_spectra_and_softmaxes_stay_float32_under_autocast():
    model = toy_model()
    views = model.data_preprocessor(toy_batch())
    calls = {}

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.name()
            if any(part in name for part in ('fft', 'softmax', 'logsumexp')):
                calls.setdefault(name, set()).add(args[0].dtype)
            return func(*args, **(kwargs or {}))

    with Recorder(), torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(**views, mode='loss')
        sum(losses[name] for name in LOSSES).backward()
    assert any('fft' in name for name in calls)
    assert any('softmax' in name for name in calls)
    for name, dtypes in calls.items():
        assert dtypes <= {torch.float32, torch.complex64}, (name, dtypes)
    reference = losses_of(toy_model(), toy_batch())
    for name in LOSSES:
        torch.testing.assert_close(
            losses[name].float(), reference[name], rtol=0.05, atol=0.02
        )


BACKBONES = {
    'r18': dict(base='r50', backbone=dict(depth=18), width=512),
    'r50': dict(base='r50', backbone={}, width=2048),
    'convnext-t': dict(
        base='convnext-b', backbone=dict(arch='tiny'), width=768, token=96
    ),
    'convnext-b': dict(base='convnext-b', backbone={}, width=1024),
    'swin-t': dict(base='swin-b', backbone=dict(arch='tiny'), width=768, token=96),
    'swin-b': dict(base='swin-b', backbone={}, width=1024),
    'vit-s': dict(base='vit-b', backbone=dict(arch='deit-small'), width=384, token=384),
    'vit-b': dict(base='vit-b', backbone={}, width=768),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbone_trains(name):
    spec = BACKBONES[name]
    cfg = Config.fromfile(CONFIGS / f'cmid_{spec["base"]}_millionaid.py')
    model_cfg = cfg.model
    model_cfg.encoder.backbone.update(spec['backbone'])
    model_cfg.encoder.channels = spec.get('token', model_cfg.encoder.channels)
    for head in model_cfg.heads.values():
        head.in_channels = spec['width']
    model_cfg.heads.contrastive.queue_size = 64
    model = MODELS.build({**model_cfg, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    model.train()
    optimizer = build_optim_wrapper(
        model, {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
    )
    teacher = {k: v.clone() for k, v in model.teacher.named_parameters()}
    student = {k: v.clone() for k, v in model.named_parameters() if v.requires_grad}
    # Swin's windows of 7 want a 7 x 7 map in the last stage.
    batch = toy_batch(batch=2, size=224 if 'swin' in name else 64, patch=32)
    for _ in range(2):
        losses = losses_of(model, batch)
        sum(losses[loss] for loss in LOSSES).backward()
        # A CLS token (ViT) is seen by patches; nothing else may be left out.
        without = [
            k for k, p in model.named_parameters() if p.requires_grad and p.grad is None
        ]
        assert without == []
        optimizer.step()
        optimizer.zero_grad()
    for key, value in model.teacher.named_parameters():
        assert torch.equal(value, teacher[key]) and value.grad is None
    moved = [
        k
        for k, v in model.named_parameters()
        if k in student and not torch.equal(v, student[k])
    ]
    unmoved = set(student) - set(moved)
    # A bias in front of a BatchNorm has no effect and moves by rounding alone.
    assert all('attn' in key or 'bias' in key for key in unmoved), unmoved


def stages_config(**changes):
    """Local heads at stride 16, the global one at the last stage."""
    config = toy_config()
    config['encoder']['backbone']['out_indices'] = (2, 3)
    heads = config['heads']
    heads['reconstruction'].update(in_channels=32, stride=16, stage=-2)
    heads['assignment'].update(in_channels=32, stage=-2)
    return dict(encoder=config['encoder'], heads=heads, **changes)


def test_heads_read_a_stage_of_choice():
    model = toy_model(**stages_config())
    seen = {}
    for name, head in model.heads.items():
        loss = head.loss
        head.loss = lambda pair, name=name, loss=loss: (
            seen.__setitem__(name, (pair.student, pair.teacher)) or loss(pair)
        )
    losses = losses_of(model, toy_batch())
    assert all(torch.isfinite(losses[name]) for name in LOSSES)
    for name, shape in (
        ('reconstruction', (4, 32, 4, 4)),
        ('contrastive', (4, 64, 2, 2)),
        ('assignment', (4, 32, 4, 4)),
    ):
        for maps in seen[name]:
            assert [tuple(features.shape) for features in maps] == [shape] * 2


def test_reconstructs_from_the_stage_of_the_head():
    model = toy_model(**stages_config()).eval()
    batch = toy_batch()
    views = model.data_preprocessor(batch)
    panels = model.reconstruct(batch)
    with torch.no_grad():
        stage, _ = model.student.stages(views['masked_images'][0], views['masks'][0])
        expected = model.heads['reconstruction'](stage)
    torch.testing.assert_close(panels['reconstruction'], expected)
    assert panels['reconstruction'].shape == panels['target'].shape


def test_a_stage_that_the_backbone_does_not_give_is_refused():
    config = stages_config()
    config['encoder']['backbone']['out_indices'] = (3,)
    with pytest.raises(ValueError, match=r'stage=-2, but .* gives 1 .*out_indices'):
        losses_of(toy_model(**config), toy_batch())


def test_joint_views_are_one_batch():
    """In eval mode nothing differs; in training mode BatchNorm's batch does."""
    plain, joint = toy_model(), toy_model(joint_views=True)
    joint.load_state_dict(plain.state_dict())
    seen = []
    joint.student.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(tuple(inputs[0].shape))
    )
    batch = toy_batch()
    for model in (plain, joint):
        model.eval()
    expected, found = losses_of(plain, batch), losses_of(joint, batch)
    assert seen == [(8, 3, 64, 64)]
    for name in LOSSES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    for model in (plain, joint):
        model.train()
    assert not torch.allclose(
        losses_of(joint, batch)['loss_spatial'], losses_of(plain, batch)['loss_spatial']
    )


def test_loss_weight_scales_a_head_alone():
    heads = toy_config()['heads']
    heads['assignment']['loss_weight'] = 0.25
    weighted, plain = toy_model(heads=heads), toy_model()
    batch = toy_batch()
    found, expected = losses_of(weighted, batch), losses_of(plain, batch)
    assert found['loss_assignment'] == 0.25 * expected['loss_assignment']
    assert found['loss_contrastive'] == expected['loss_contrastive']
    assert found['prototype_entropy'] == expected['prototype_entropy']


@pytest.mark.parametrize(('num_steps', 'every'), [(100, 1), (4000, 1), (4000, 8)])
def test_half_life_is_a_share_of_the_run(num_steps, every):
    model = toy_model(momentum_half_life=0.01)
    # After 1 % of the run, at the first momentum, half of the teacher is left.
    moves = 0.01 * num_steps / every
    left = model.momentum_at(0, num_steps, every) ** moves
    assert left == pytest.approx(0.5)
    assert model.momentum_at(num_steps, num_steps, every) == pytest.approx(1.0)


def test_two_first_momenta_are_refused():
    with pytest.raises(ValueError, match=r'momentum=0\.9 and momentum_half_life=0\.1'):
        toy_model(momentum=0.9, momentum_half_life=0.1)


def test_small_crops_go_to_the_student_alone_in_one_batch():
    contrast = dict(in_batch=True, queue_size=0, teacher_keys_from=None)
    config = toy_config()
    config['heads']['contrastive'].update(contrast)
    model = toy_model(heads=config['heads'])
    seen = {'student': [], 'teacher': []}
    for role, backbone in (
        ('student', model.student.backbone),
        ('teacher', model.teacher),
    ):
        backbone.register_forward_pre_hook(
            lambda module, inputs, role=role: seen[role].append(inputs[0])
        )
    batch = toy_batch()
    crops = torch.randint(0, 256, (len(batch['inputs']), 3, 3, 32, 32)).byte()
    views = model.data_preprocessor(dict(batch, crops=crops))
    losses = model(**views, mode='loss')
    assert torch.isfinite(losses['loss_crops'])
    assert len(seen['teacher']) == 2
    small = model.data_preprocessor.normalize(crops.transpose(0, 1).flatten(0, 1))
    assert torch.equal(seen['student'][-1], small)
    assert 'loss_crops' not in losses_of(model, batch)


def test_heads_of_one_type_both_count():
    def losses(**weights):
        heads = {
            name: dict(type='SpreadHead', loss_weight=weight)
            for name, weight in weights.items()
        }
        found = losses_of(toy_model(heads=heads), toy_batch())
        return {name: value for name, value in found.items() if 'loss' in name}

    single = losses(fine=1.0)['loss_spread']
    both = losses(fine=1.0, coarse=0.5)
    assert both == {'loss_spread': single, 'coarse_loss_spread': 0.5 * single}


def test_unlike_heads_of_the_same_names_both_count():
    byol = dict(type='BYOLHead', in_channels=64, hidden_channels=8, out_channels=4)
    moco = toy_config()['heads']['contrastive']
    heads = dict(contrastive=moco, regression=byol)
    both = losses_of(toy_model(heads=heads), toy_batch())
    heads['regression'] = {**byol, 'loss_weight': 2.0}
    more = losses_of(toy_model(heads=heads), toy_batch())
    assert torch.equal(both['loss_contrastive'], more['loss_contrastive'])
    name = 'regression_loss_contrastive'
    assert torch.equal(2 * both[name], more[name])
