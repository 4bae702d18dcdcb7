# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A teacher that sees the undisturbed view alone."""

import pytest
import torch

from tests.toy import toy_batch, toy_config, toy_model

SMALL = dict(in_channels=64, hidden_channels=32, out_channels=16)
HEADS = dict(
    # As it stays, the centre does not depend on the direction that came before.
    assignment=dict(toy_config()['heads']['assignment'], center_momentum=1.0),
    similarity=dict(type='PatchSimilarityHead', **SMALL, num_matches=2),
    queue=dict(toy_config()['heads']['contrastive']),
    batch=dict(type='MoCoHead', **SMALL, queue_size=0, in_batch=True),
    regression=dict(type='BYOLHead', **SMALL),
)


def losses_of(model, batch):
    torch.manual_seed(0)
    return model(**model.data_preprocessor(batch), mode='loss')


def exchanged(batch):
    pairs = {'inputs', 'masks', 'boxes'}
    return {key: v.flip(1) if key in pairs else v for key, v in batch.items()}


@pytest.mark.parametrize('name', HEADS)
def test_one_direction_and_the_other_are_both(name):
    heads = {'head': HEADS[name]}
    both, weak = toy_model(heads=heads), toy_model(heads=heads, weak_teacher=True)
    weak.load_state_dict(both.state_dict())
    queue = 'head.queue' in dict(weak.heads.named_buffers())
    before = weak.heads['head'].queue.clone() if queue else None
    losses = []
    for batch in (toy_batch(), exchanged(toy_batch())):
        losses.append(sum(v for k, v in losses_of(weak, batch).items() if 'loss' in k))
        if before is not None:
            weak.heads['head'].queue.copy_(before)
    expected = sum(v for k, v in losses_of(both, toy_batch()).items() if 'loss' in k)
    if name == 'batch':
        # Negatives of both views, not of one.
        assert losses[0] < expected
    else:
        torch.testing.assert_close(sum(losses) / 2, expected)
        assert not torch.allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.parametrize('joint', [False, True])
def test_teacher_sees_the_first_view_alone(joint):
    heads = toy_config()['heads'] | {
        'similarity': HEADS['similarity'],
        'regression': HEADS['regression'],
    }
    model = toy_model(heads=heads, weak_teacher=True, joint_views=joint)
    seen = []
    model.teacher.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    views = model.data_preprocessor(toy_batch())
    losses = model(**views, mode='loss')
    assert len(seen) == 1 and torch.equal(seen[0], views['images'][0])
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(torch.isfinite(v) for v in losses.values())
    # Its keys alone enter the queue.
    assert model.heads['contrastive'].queue_ptr == 4


def test_negatives_are_the_other_images_keys_of_the_teacher():
    model = toy_model(heads={'head': HEADS['batch']}, weak_teacher=True)
    views = model.data_preprocessor(toy_batch())
    head = model.heads['head']
    with torch.no_grad():
        query = head.student_projector(
            model.student.stages(views['masked_images'][1], views['masks'][1])[-1].mean(
                (2, 3)
            )
        )
        key = head.teacher_projector(model.teacher(views['images'][0])[-1].mean((2, 3)))
    cosine = torch.nn.functional.cosine_similarity(query[:, None], key[None], dim=2)
    expected = torch.nn.functional.cross_entropy(cosine / 0.2, torch.arange(4))
    found = model(**views, mode='loss')['loss_contrastive']
    torch.testing.assert_close(found, expected)


def test_crops_follow_the_keys_that_there_are():
    model = toy_model(heads={'head': HEADS['batch']}, weak_teacher=True)
    batch = toy_batch()
    crops = torch.randint(0, 256, (4, 3, 3, 32, 32)).byte()
    losses = losses_of(model, dict(batch, crops=crops))
    assert torch.isfinite(losses['loss_crops'])


def test_without_a_teacher_it_is_refused():
    heads = {'reconstruction': toy_config()['heads']['reconstruction']}
    with pytest.raises(ValueError, match='weak_teacher=True has no effect'):
        toy_model(heads=heads, weak_teacher=True)
