# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Work that several processes, on any machines, share out without talking."""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple


class Shard(NamedTuple):
    """One of several processes that do a work together.

    Attributes:
        number: From 1.
        total: How many there are.
    """

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        return f'{self.number}/{self.total}'

    @classmethod
    def parse(cls, text: str) -> 'Shard':
        """The third of sixteen from ``3/16``.

        Raises:
            ValueError: If it is none.
        """
        found = re.fullmatch(r'(\d+)/(\d+)', text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(
                f'shard {text}: expected which one of how many, from 1/3 to 3/3 for '
                'three processes'
            )
        return cls(int(found[1]), int(found[2]))

    def within(self, launcher: Mapping[str, str] = os.environ) -> 'Shard':
        """Its part for this process of several that torchrun started.

        Args:
            launcher: Variables by which torchrun says so.
        """
        if 'TORCHELASTIC_RUN_ID' not in launcher:
            return self
        rank, processes = int(launcher['RANK']), int(launcher['WORLD_SIZE'])
        number = (self.number - 1) * processes + rank + 1
        return Shard(number, self.total * processes)

    def shares(self, weights: Sequence[Sequence[int]]) -> list[range]:
        """What of each image falls to this shard.

        The strips of all images in their order are cut into pieces of about one
        weight, of which this shard gets its own: of few images some strips, so that
        hardly any window reaches into two shards.

        Args:
            weights: Of each image those of its strips.
        """
        ends = list(accumulate(weight for image in weights for weight in image))
        mine, first, start = [], 0, 0
        for image in weights:
            owned = []
            for strip in range(len(image)):
                end = ends[first + strip]
                # Whose it is, is decided by its middle.
                if (start + end) * self.total // (2 * ends[-1]) == self.number - 1:
                    owned.append(strip)
                start = end
            first += len(image)
            mine.append(range(owned[0], owned[-1] + 1) if owned else range(0))
        return mine
