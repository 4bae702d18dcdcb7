# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Runs whose student and frozen target begin with the same file."""

import pytest
import torch

from cmid_mm.checkpoints import load_backbone
from cmid_mm.checkpoints.reading import read_checkpoint
from cmid_mm.engine.backbone_checkpoint import set_backbone_checkpoint
from tests.end_to_end.pretraining import toy_run, train, write_images
from tests.end_to_end.test_resume import assert_same
from tests.toy import toy_model


@pytest.fixture(scope='module')
def strong(tmp_path_factory):
    """Weights of a backbone."""
    path = tmp_path_factory.mktemp('weights') / 'strong.pth'
    torch.save(toy_model().student.backbone.state_dict(), path)
    return path


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


def continued_run(images, work_dir, weights, **changes):
    """Beside the branch of reconstruction."""
    cfg = toy_run(images, work_dir)
    heads = cfg.model.heads
    heads.contrastive = heads.assignment = None
    heads.distillation = dict(type='FeatureDistillationHead')
    if weights is not None:
        set_backbone_checkpoint(cfg, str(weights))
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(scope='module')
def uninterrupted(images, strong, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('whole')
    runner = train(continued_run(images, work_dir, strong))
    return runner, work_dir / 'iter_14.pth'


def test_both_begin_with_the_file_and_the_target_stays(uninterrupted, strong):
    runner, _ = uninterrupted
    weights = torch.load(strong)
    target = runner.model.heads['distillation'].target.state_dict()
    assert all(torch.equal(value, target[name]) for name, value in weights.items())
    student = runner.model.student.backbone.state_dict()
    assert not torch.equal(student['conv1.weight'], weights['conv1.weight'])


def test_a_killed_run_continues_bit_identically(
    images, uninterrupted, strong, tmp_path
):
    train(continued_run(images, tmp_path, strong), kill_at=8)
    resume = dict(resume=True, load_from=str(tmp_path / 'iter_8.pth'))
    train(continued_run(images, tmp_path, strong, **resume))
    assert_same(tmp_path / 'iter_14.pth', uninterrupted[1])


def test_a_checkpoint_holds_the_student_and_the_targets_checksum(uninterrupted):
    _, path = uninterrupted
    checkpoint = read_checkpoint(path)
    own = [name for name in checkpoint['state_dict'] if 'distillation' in name]
    assert len(own) == 3 and checkpoint['state_dict'][own[0]] > 0
    trained = [n for n in checkpoint['state_dict'] if n.endswith(('weight', 'bias'))]
    assert len(checkpoint['optimizer']['state']) == len(trained) + 1  # mask token
    backbone = toy_model().student.backbone
    load_backbone(backbone, path)
    assert torch.equal(
        backbone.conv1.weight,
        checkpoint['state_dict']['student.backbone.conv1.weight'],
    )


def test_going_on_with_another_target_is_refused(
    images, uninterrupted, strong, tmp_path
):
    weights = torch.load(strong)
    weights['layer4.1.bn2.running_mean'][0] += 1e-6
    torch.save(weights, tmp_path / 'other.pth')
    resume = dict(resume=True, load_from=str(uninterrupted[1]))
    cfg = continued_run(images, tmp_path, tmp_path / 'other.pth', **resume)
    with pytest.raises(ValueError, match='target are not those .*give the file'):
        train(cfg)


def test_a_target_with_random_weights_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match='random weights; .*--backbone-checkpoint'):
        train(continued_run(images, tmp_path, None))


def test_weights_of_the_student_are_not_those_of_another_target(
    images, strong, tmp_path
):
    cfg = continued_run(images, tmp_path, strong)
    cfg.model.heads.distillation.target = dict(type='ResNet', depth=34)
    with pytest.raises(ValueError, match='random weights; write init_cfg=.*target'):
        train(cfg)
