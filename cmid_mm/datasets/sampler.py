# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Sampling that can be resumed at any iteration."""

from collections.abc import Iterator, Sized

import torch
from mmengine import dist
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler[int]):
    """Shuffle every epoch, as a pure function of seed and epoch.

    Yields *keys*, not indices: ``key % len(dataset)`` is the image, and the whole
    key, in which epoch and seed are folded, seeds its augmentation. The stream is
    therefore the same for any number of workers and any start in the middle.

    Args:
        dataset (Sized): The data set.
        shuffle (bool): Defaults to True.
        seed (int, optional): Defaults to 0.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None
    ) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = seed or 0
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        """Images of an epoch in this process, the same number in each."""
        return len(self.dataset) // self.world_size

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch and the place in it where iteration starts.

        Args:
            epoch (int): Epoch of the run, counted from 0.
            start (int): Images to leave out, of all processes. Defaults to 0.
        """
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[int]:
        """Yield this process's keys of the epoch."""
        size = len(self.dataset)
        stream = self.seed * 2**20 + self.epoch
        if self.shuffle:
            generator = torch.Generator()
            generator.manual_seed(stream)
            order = torch.randperm(size, generator=generator).tolist()
        else:
            order = list(range(size))
        # The processes take turns, so that what some of them have seen of an epoch is
        # its beginning, and any other number of them can share the rest.
        rest = order[self.start :]
        whole = len(rest) - len(rest) % self.world_size
        for index in rest[self.rank : whole : self.world_size]:
            yield stream * size + index
