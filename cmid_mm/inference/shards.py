# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Work that several processes, on any machines, share out without talking."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from ..files import write_bytes


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


#: All of the work.
WHOLE = Shard()


def joined_summaries(
    summaries: Sequence[Any], folder: Path, shard: Shard, record: Mapping[str, Any]
) -> list[Any]:
    """What sums up the results of all shards, for the one that is the last.

    Each shard leaves a file with its own. Whoever finds those of all joins them.

    Args:
        summaries: Of the results of this shard, as JSON has them.
        folder: That of the results.
        shard: Which one it is.
        record: What the results depend on.

    Returns:
        Those of all shards in their order; none if some are not done.
    """
    if shard.total == 1:
        return list(summaries)
    key = hashlib.blake2b(json.dumps(record).encode(), digest_size=8).hexdigest()
    files = [
        folder / f'.summary-{key}-{number}-of-{shard.total}.json'
        for number in range(1, shard.total + 1)
    ]
    content = json.dumps(summaries, default=str)
    write_bytes(files[shard.number - 1], content.encode(), sync=True)
    try:
        joined = [each for file in files for each in json.loads(file.read_bytes())]
    except FileNotFoundError:  # not there yet, or another was first
        return []
    for file in files:
        file.unlink(missing_ok=True)
    return joined
