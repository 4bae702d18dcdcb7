# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import argparse
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from cmid_mm.checkpoints import CheckpointError, convert_checkpoint, read_checkpoint

ROOT = Path(__file__).parents[2]


def published_state(name: str) -> dict[str, torch.Tensor]:
    """Random numbers under the names and in the shapes of a published checkpoint.

    All float tensors are windows into one block of memory, each with its own start,
    so the file is small, yet no two tensors of a shape are equal.
    """
    lines = (ROOT / f'tests/data/official_keys/{name}.tsv').read_text().splitlines()
    numbers = torch.randn(256 * 65536 + len(lines), generator=torch.manual_seed(0))
    state = {}
    for index, line in enumerate(lines):
        key, size, dtype = line.split('\t')
        shape = [] if size == 'scalar' else [int(side) for side in size.split('x')]
        length = torch.Size(shape).numel()
        if dtype == 'float32':
            state[key] = numbers[index : index + length].view(shape)
        else:
            state[key] = torch.full(shape, index)
    return state


@pytest.fixture(scope='module', params=['r50', 'swin_b'])
def published(request):
    return request.param, published_state(request.param)


# The published file is what it may be: beside what the trainer keeps, or of a
# data-parallel model.
@pytest.mark.parametrize(('key', 'prefix'), [('model', ''), (None, 'module.')])
def test_converted_file_loads_strictly(tmp_path, published, key, prefix):
    name, state = published
    nested = {prefix + name: value for name, value in state.items()}
    others = dict(epoch=200, num_gpus=4, metric_storage=argparse.Namespace(loss=1.0))
    torch.save({key: nested, **others} if key else nested, tmp_path / 'src.pth')
    meta = convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert meta['bands'] == 3
    assert meta['mean'] == pytest.approx([86.182, 91.928, 85.374], abs=1e-3)
    assert meta['architecture'].startswith(
        {'r50': 'ResNet-50'}.get(name, 'Swin 2-2-18')
    )
    converted = read_checkpoint(tmp_path / 'dst.pth')
    assert converted['meta'] == meta

    name = dict(r50='r50', swin_b='swin-b')[name]
    config = Config.fromfile(ROOT / f'configs/cmid/cmid_{name}_millionaid.py')
    settings = dict(config.model)
    settings.setdefault('data_preprocessor', config.get('data_preprocessor'))
    model = MODELS.build(settings)
    # Without copying; names and shapes are checked all the same.
    model.load_state_dict(converted['state_dict'], strict=True, assign=True)

    # Every tensor arrives, once: student and teacher, heads, queue and centre.
    loaded = model.state_dict()
    assert len(loaded) == len(state)
    ours = {
        'online_encoder.model.norm3.weight': 'student.backbone.norm3.weight',
        'online_encoder.model.conv1.weight': 'student.backbone.conv1.weight',
        'online_encoder.mask_token': 'student.mask_token',
        'branch_encoder.layer4.2.bn3.running_var': 'teacher.layer4.2.bn3.running_var',
        'branch_encoder.patch_embed.norm.bias': 'teacher.patch_embed.norm.bias',
        'mim2org.decoder_pred.0.bias': 'heads.reconstruction.decoder.0.bias',
        'queue': 'heads.contrastive.queue',
        'queue_ptr': 'heads.contrastive.queue_ptr',
        'online_projector.layer.0.0.bias': 'heads.contrastive.student_projector.0.bias',
        'online_projector.layer.0.3.weight': (
            'heads.contrastive.student_projector.2.weight'
        ),
        'branch_projector.layer.0.3.bias': 'heads.contrastive.teacher_projector.2.bias',
        'class_projector.mlp.4.bias': 'heads.assignment.student_head.mlp.4.bias',
        'class_projector.mlp.0.weight': 'heads.assignment.student_head.mlp.0.weight',
        'branch_class_projector.mlp.4.running_mean': (
            'heads.assignment.teacher_head.mlp.4.running_mean'
        ),
        'class_projector.last_layer.weight_g': (
            'heads.assignment.student_head.prototypes.parametrizations.weight.original0'
        ),
        'branch_class_projector.last_layer.weight_v': (
            'heads.assignment.teacher_head.prototypes.parametrizations.weight.original1'
        ),
        'class_loss.center': 'heads.assignment.center',
    }
    found = ours.keys() & state.keys()
    assert len(found) >= len(ours) - 3  # some parts are only in one of them
    for theirs in found:
        mine = ours[theirs]
        assert torch.equal(loaded[mine].flatten(), state[theirs].flatten()), mine
    for network, prefix in (
        ('student.backbone.', 'online_encoder.model.'),
        ('teacher.', 'branch_encoder.'),
    ):
        names = [name for name in loaded if name.startswith(network)]
        assert len(names) > 100
        for name in names:
            theirs = state[prefix + name.removeprefix(network)]
            assert torch.equal(loaded[name], theirs), name

    def starts(tensors):
        return sorted(t.flatten()[0].item() for t in tensors.values() if t.numel())

    assert starts(loaded) == starts(state)


def test_gain_of_prototypes_is_the_norm(published):
    """Official weight_g scales each prototype's direction, as original0 does."""
    _, state = published
    gain = state['class_projector.last_layer.weight_g'].squeeze(2)
    direction = state['class_projector.last_layer.weight_v'].squeeze(2)
    layer = torch.nn.utils.parametrizations.weight_norm(
        torch.nn.Linear(256, 2048, bias=False)
    )
    layer.load_state_dict(
        {
            'parametrizations.weight.original0': gain,
            'parametrizations.weight.original1': direction,
        }
    )
    torch.testing.assert_close(
        layer.weight, gain * direction / direction.norm(dim=1, keepdim=True)
    )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'queue': None}, r'missing names 1 \(queue\)'),
        (
            {'online_encoder.model.conv1.weight': None},
            r'missing names 1 \(online_encoder\.model\.conv1\.weight\)',
        ),
        (
            {'branch_encoder.layer1.0.conv3.weight': None},
            r'missing names 1 \(branch_encoder\.layer1\.0\.conv3\.weight\)',
        ),
        (
            {'predictor.0.bias': torch.ones(1), 'class_projector.mlp.1.bias': None},
            r'ResNet-50: unknown names 1 \(predictor\.0\.bias\); '
            r'missing names 1 \(class_projector\.mlp\.1\.bias\); nothing was converted',
        ),
        (
            {'class_projector.mlp.0.weight': torch.ones(4, 4, 3)},
            r'mlp\.0\.weight has shape \(4, 4, 3\), expected a last dimension of 1',
        ),
        (
            {'online_encoder.mask_token': torch.ones(2, 2)},
            r'mask_token has shape \(2, 2\), expected a vector',
        ),
        ({'queue': 'text'}, 'queue is a str, expected a tensor'),
    ],
)
def test_other_contents_are_refused(tmp_path, change, message):
    state = {**published_state('r50'), **change}
    state = {name: value for name, value in state.items() if value is not None}
    torch.save(state, tmp_path / 'src.pth')
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert not (tmp_path / 'dst.pth').exists()


def run(monkeypatch, *arguments):
    script = ROOT / 'tools/convert_checkpoint.py'
    monkeypatch.setattr('sys.argv', [str(script), *map(str, arguments)])
    runpy.run_path(str(script), run_name='__main__')


def test_command(tmp_path, capsys, monkeypatch):
    torch.save(published_state('r50'), tmp_path / 'src.pth')
    run(monkeypatch, tmp_path / 'src.pth', tmp_path / 'dst.pth')
    assert 'dst.pth: ResNet-50 (width 64' in capsys.readouterr().out
    # Its own output is no published checkpoint.
    with pytest.raises(
        SystemExit, match='error: .*dst.pth is no published CMID'
    ) as end:
        run(monkeypatch, tmp_path / 'dst.pth', tmp_path / 'again.pth')
    assert '\n' not in str(end.value)
