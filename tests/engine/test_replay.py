# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import copy
import math
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from cmid_mm.engine.batch_files import save_batch
from cmid_mm.engine.replay import replay_batch
from cmid_mm.engine.step_guard import guard
from tests.toy import toy_batch
from tests.toy_baselines import build, toy_baseline


def assert_repeated(cfg, model, batch, folder, begin=lambda: None):
    """A batch whose gradients alone are infinite comes to the same losses again.

    ``begin`` is what hooks do once the training begins.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(optimizer=torch.optim.SGD(trained, lr=0.1))
    model.train()
    guard(wrapper, model)
    begin()
    model.train_step(copy.deepcopy(batch), wrapper)  # after it states are others
    handles = [p.register_hook(lambda grad: grad / 0) for p in trained]
    losses = model.train_step(copy.deepcopy(batch), wrapper)
    for handle in handles:
        handle.remove()
    assert wrapper.sick == ('gradients',)
    parts = ('model', 'data_preprocessor', 'default_scope')
    cfg = Config({part: cfg[part] for part in parts if cfg.get(part)})
    cfg.dump(folder / 'config.py')
    runner = SimpleNamespace(
        model=model,
        cfg=SimpleNamespace(filename='config.py'),
        iter=1,
        message_hub=SimpleNamespace(runtime_info=dict(iter=1, max_iters=100)),
    )
    file = folder / 'sick_batches' / 'iter_2_rank_0.pth'
    file.parent.mkdir()
    losses = {name: float(value) for name, value in losses.items()}
    save_batch(file, runner, wrapper, batch, losses, [])
    replay = replay_batch(file)
    assert math.isfinite(losses['loss'])
    assert replay.losses == losses


def test_what_hooks_have_changed_is_repeated(tmp_path):
    """DenseCL begins without the loss of its cells."""
    cfg = toy_baseline('densecl_r18_scenes')
    model = build(cfg)
    assert model.loss_lambda == 0.5

    def begin():
        model.loss_lambda = 0.0

    assert_repeated(cfg, model, toy_batch(), tmp_path, begin)
