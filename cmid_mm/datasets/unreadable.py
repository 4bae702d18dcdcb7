# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that cannot be read while training: skipped, counted, and limited."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from mmengine import dist
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from ..images import NoValidPixelError, UnreadableImageError


class TooManyUnreadableError(ValueError):
    """More files than tolerated cannot be read."""


def check_share(dataset: Any, paths: Sequence[str], files: int) -> None:
    """Stop when more files than tolerated are unreadable; one is always tolerated.

    Args:
        dataset: Has ``max_unreadable``, the share; one file is tolerated unless it
            is 0.
        paths: The unreadable ones.
        files: Number of all.

    Raises:
        TooManyUnreadableError: If so; the message lists files.
    """
    share = dataset.max_unreadable
    if len(paths) <= (max(share * files, 1) if share > 0 else 0):
        return
    shown = '\n'.join(paths[:20]) + ('\n...' if len(paths) > 20 else '')
    raise TooManyUnreadableError(
        f'{len(paths)} of {files} images cannot be read, more than '
        f'max_unreadable={share:g} permits:\n{shown}\n'
        f'Replace or remove them, or raise max_unreadable of {type(dataset).__name__}'
    )


def share_states(states: torch.Tensor) -> None:
    """Take, for each file, the largest state that any process knows.

    Args:
        states: Of this process, in memory that its workers share; changed in place.
    """
    if dist.get_world_size() > 1:
        largest = states.clone()
        dist.all_reduce(largest, op='max')
        states.copy_(largest)


def check_max_unreadable(dataset: Any, share: float) -> None:
    """Refuse what is no share."""
    if not 0 <= share <= 1:
        raise ValueError(
            f'{type(dataset).__name__}: max_unreadable is a share in 0-1, got {share}'
        )


class SkipsUnreadable(BaseDataset):
    """A data set of labelled samples that goes on without some of its files.

    While training, a sample of which a file (image, second date or mask) cannot be
    read is reported once, counted, and another one, drawn at random, takes its place.
    In a test nothing takes its place, which would change the metric unseen: it stops
    with the name of the file.

    Args:
        *args: Of the data set.
        max_unreadable: Share of such samples (0-1) above which training stops; one is
            always tolerated unless this is 0.
        **kwargs: Of the data set.

    Raises:
        ValueError: If ``max_unreadable`` is out of range.
    """

    def __init__(self, *args: Any, max_unreadable: float = 0.01, **kwargs: Any) -> None:
        check_max_unreadable(self, max_unreadable)
        self.max_unreadable = max_unreadable
        super().__init__(*args, **kwargs)

    def full_init(self) -> None:
        """List the samples and set up the record of unreadable ones."""
        if not self._fully_initialized:
            super().full_init()
            # In shared memory: what one worker finds, no other tries again.
            self._unreadable = torch.zeros(len(self), dtype=torch.uint8).share_memory_()

    def prepare_data(self, idx: int) -> Any:
        """Load a sample; in training None, for another, if it cannot be read."""
        if not self.test_mode and self._unreadable[idx]:
            return None
        try:
            return super().prepare_data(idx)
        except NoValidPixelError:
            raise  # it can be read
        except UnreadableImageError as error:
            if self.test_mode:
                raise
            self._unreadable[idx] = 1
            print_log(
                f'Skipped unreadable sample: {error}', 'current', level=logging.WARNING
            )
            self.check_unreadable()
            return None

    def share_unreadable(self) -> None:
        """Tell the other processes of a distributed run what is unreadable.

        All processes have to call this at the same iteration.
        """
        share_states(self._unreadable)

    @property
    def unreadable_count(self) -> int:
        """Number of samples found unreadable so far, by any worker."""
        return int(self._unreadable.sum())

    def unreadable_paths(self) -> list[str]:
        """Images of the samples found unreadable so far, by any worker."""
        indices = torch.nonzero(self._unreadable).flatten().tolist()
        return [self.get_data_info(index)['img_path'] for index in indices]

    def check_unreadable(self) -> None:
        """Stop when more samples than tolerated are unreadable.

        Raises:
            TooManyUnreadableError: If so; the message lists files.
        """
        check_share(self, self.unreadable_paths(), len(self))
