# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The clock of the run, for schedules within models."""

from mmengine.logging import MessageHub


def finished_epochs() -> int:
    """Finished epochs of the run, as mmengine's runner notes them; 0 outside one.

    In a loop of one's own: ``MessageHub.get_current_instance().update_info('epoch',
    epoch)``.
    """
    return MessageHub.get_current_instance().get_info('epoch') or 0


def in_a_run() -> bool:
    """Whether mmengine's runner is training."""
    return MessageHub.get_current_instance().get_info('max_iters') is not None
