# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The checkpoint from which a run starts: refused before training unless it fits."""

from collections.abc import Mapping
from typing import Any

from mmengine import dist
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model

from ..checkpoints import CheckpointError
from ..checkpoints.fitting import read_fitting_checkpoint

_INSTEAD = (
    'to start a new run from its weights alone, give it as --cfg-options load_from=CKPT'
)


def read_start(runner: Runner) -> dict[str, dict[str, Any]]:
    """Read what a run resumes or loads, and make sure that all of it fits.

    mmengine itself would load what fits and go on with the rest untrained.

    Args:
        runner: A built runner; its optimizer is built if the run resumes.

    Returns:
        The checkpoint by its path, for
        :func:`cmid_mm.checkpoints.openmmlab.register_loaders`; nothing if the run
        starts from none or from one that mmengine downloads.

    Raises:
        CheckpointError: If the file cannot be read, a weight does not fit, or a run
            cannot be resumed from it; names the file.
    """
    _agree_on_start(runner)
    path: Any = runner.cfg.get('load_from')
    if not path or '://' in path:
        return {}
    resumes = bool(runner.cfg.get('resume'))
    try:
        checkpoint = read_fitting_checkpoint(get_ori_model(runner.model), path)
    except CheckpointError as error:
        advice = (
            'a run resumes with the config and the options it was started with'
            if resumes
            else 'load_from takes all weights of the model or none; '
            '--backbone-checkpoint takes a backbone'
        )
        option = '--resume' if resumes else 'load_from'
        raise CheckpointError(f'{option}: {error}; {advice}') from error
    if resumes:
        _check_state(runner, checkpoint, path)
    return {path: checkpoint}


def _agree_on_start(runner: Runner) -> None:
    """Let all processes start from what the first has found.

    Each has looked for the latest checkpoint itself, before they knew of each other.
    """
    own = (runner.cfg.get('load_from'), runner.cfg.get('resume'))
    agreed = [own]
    dist.broadcast_object_list(agreed)
    if agreed[0] != own:
        runner.cfg.load_from, runner.cfg.resume = agreed[0]
        runner._load_from, runner._resume = agreed[0]


def _check_state(runner: Runner, checkpoint: Mapping[str, Any], path: str) -> None:
    """Refuse to resume without all that a run has beside the weights."""
    meta = checkpoint.get('meta')
    found = {**checkpoint, **(meta if isinstance(meta, Mapping) else {})}
    needed = ['meta', 'epoch', 'iter', 'message_hub', 'optimizer']
    if runner.param_schedulers:
        needed.append('param_schedulers')
    missing = [name for name in needed if name not in found]
    if missing:
        raise CheckpointError(
            f'--resume: {path} is no checkpoint that a run can be resumed from; it has '
            f'no {", ".join(missing)}; {_INSTEAD}'
        )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        return  # several optimizers
    saved = checkpoint['optimizer'].get('param_groups') or []
    own = runner.optim_wrapper.optimizer.param_groups
    sizes, own_sizes = (
        [len(group['params']) for group in groups] for groups in (saved, own)
    )
    problem = None
    if sizes != own_sizes:
        problem = (
            f'{len(sizes)} groups of {sum(sizes)} parameters in all, the one of this '
            f'config {len(own_sizes)} of {sum(own_sizes)}'
        )
    elif lacking := _hyperparameters(own) - _hyperparameters(saved):
        problem = f'no {", ".join(sorted(lacking))}'
    if problem:
        raise CheckpointError(
            f'--resume: the optimizer in {path} is not the one of this config: it has '
            f'{problem}. Give the optim_wrapper that the run was started with; or '
            f'{_INSTEAD}'
        )


def _hyperparameters(groups: list[dict[str, Any]]) -> set[str]:
    """Names of the numbers that all groups have.

    Switches differ between versions of PyTorch, which supplies those that a file lacks.
    """
    names = [
        {
            name
            for name, value in group.items()
            if name != 'params' and value is not None and not isinstance(value, bool)
        }
        for group in groups
    ]
    return set.intersection(*names) if names else set()
