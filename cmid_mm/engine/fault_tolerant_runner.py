# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A runner that does not lose work to what happens around it."""

from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..configs import is_type, resolve_type
from .hooks import LogHistoryHook, VerifiedCheckpointHook


class FaultTolerantRunner(Runner):
    """mmengine's runner with checkpoints that are not lost, whatever the config is.

    In place of ``CheckpointHook`` it takes :class:`VerifiedCheckpointHook`, and adds a
    :class:`LogHistoryHook` where there is none. The config stays as it is.
    """

    def register_hook(
        self, hook: Hook | dict[str, Any], priority: Any | None = None
    ) -> None:
        """Register a hook, or the one that stands in for it."""
        if (
            isinstance(hook, dict)
            and resolve_type(HOOKS, hook.get('type')) is CheckpointHook
        ):
            hook = {**hook, 'type': VerifiedCheckpointHook}
        super().register_hook(hook, priority)

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """Register the config's default hooks and those that every run needs."""
        hooks = dict(hooks or {})
        if not any(
            is_type(HOOKS, hook.get('type'), LogHistoryHook)
            for hook in hooks.values()
            if isinstance(hook, dict)
        ):
            hooks['log_history'] = dict(type=LogHistoryHook)
        super().register_default_hooks(hooks)
