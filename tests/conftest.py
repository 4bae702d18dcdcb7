# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import functools
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.visualization import Visualizer
from mmpretrain.registry import MODELS

import cmid_mm  # noqa: F401
from cmid_mm.images import notices

# The same examples each time; examples share what function-scoped fixtures give.
for profile, examples in (('ordinary', 15), ('thorough', 300)):
    settings.register_profile(
        profile,
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
settings.load_profile('ordinary')

VECTORS = Path(__file__).parent / 'data' / 'vectors'


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    """Skip what reaches oriented detection where there is no mmrotate."""
    try:
        return (yield)
    # It may be told in a command's output or by the error of a config, too.
    except Exception as error:
        if 'mmrotate' not in str(error) or _has_mmrotate():
            raise
        pytest.skip(str(error))


def _has_mmrotate() -> bool:
    try:
        import mmrotate  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    _forget_runs()
    torch.manual_seed(0)
    np.random.seed(0)
    yield
    # The next module's fixtures come before its first test's.
    _forget_runs()


def _forget_runs() -> None:
    """Clear what runs left behind; runs of one second share their names."""
    for kind in (MessageHub, DefaultScope, *_kinds_of(Visualizer)):
        kind._instance_dict.clear()
    init_default_scope('mmpretrain')


def _kinds_of(cls: type) -> Iterator[type]:
    yield cls
    for kind in cls.__subclasses__():
        yield from _kinds_of(kind)


@pytest.fixture
def vectors():
    """Read a file of test vectors as tensors."""

    def read(name: str) -> dict[str, torch.Tensor]:
        with np.load(VECTORS / f'{name}.npz') as arrays:
            return {key: torch.as_tensor(arrays[key]) for key in arrays.files}

    return read


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """What is said once a run is said once a test."""
    monkeypatch.setattr(notices, '_said', set())


@pytest.fixture
def build_shapes(monkeypatch):
    """Build a model without memory for its weights."""
    # Backbones read the rates of drop path from it.
    on_cpu = functools.partial(torch.linspace, device='cpu')
    monkeypatch.setattr(torch, 'linspace', on_cpu)

    def build(cfg: Config) -> torch.nn.Module:
        with torch.device('meta'):
            return MODELS.build(
                {**cfg.model, 'data_preprocessor': cfg.get('data_preprocessor')}
            )

    return build
