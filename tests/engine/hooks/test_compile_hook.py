# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch._dynamo.utils import counters

from cmid_mm.engine.hooks.compile_hook import compile_networks, networks_of
from tests.end_to_end.pretraining import toy_run, train, write_images
from tests.toy import toy_batch, toy_config, toy_model

HEADS = dict(
    contrastive=toy_config()['heads']['contrastive'],
    distillation=dict(
        type='FeatureDistillationHead',
        target=dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
    ),
)


@pytest.fixture(autouse=True)
def no_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_a_compiled_step_has_no_graph_breaks_and_the_same_values():
    plain, compiled = toy_model(heads=HEADS), toy_model(heads=HEADS)
    names = list(compiled.state_dict())
    networks = list(networks_of(compiled))
    assert len(networks) == 6
    assert networks[-2:] == list(compiled.heads['distillation'].children())
    # A break is an error here.
    compile_networks(compiled, backend='eager', fullgraph=True)
    counters.clear()
    views = plain.data_preprocessor(toy_batch())
    outputs = []
    for model in (plain, compiled):
        losses = model(**views, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        outputs.append(losses)
    # Networks of the same shape share theirs.
    assert counters['stats']['unique_graphs'] >= 3 and not counters['graph_break']
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    gradients = [
        torch.cat([p.grad.flatten() for p in model.student.parameters()])
        for model in (plain, compiled)
    ]
    assert torch.equal(*gradients)
    assert list(compiled.state_dict()) == names


@pytest.mark.slow
def test_a_run_with_compiled_networks(tmp_path):
    cfg = toy_run(write_images(tmp_path / 'images', count=4), tmp_path / 'work')
    cfg.custom_hooks.append(dict(type='CompileHook', backend='eager'))
    cfg.train_cfg.max_epochs = 1
    counters.clear()
    assert train(cfg).iter == 2
    assert counters['stats']['unique_graphs'] > 2 and not counters['graph_break']
