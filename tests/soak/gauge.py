# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a process and its workers hold on to, and whether that grows.

A quantity is flat if it rises by less than its bound over the second half of a run.
The rise is Theil and Sen's slope, the median of the slopes between all pairs of
samples, times the length: peaks, as of a validation, do not move it, whereas what is
kept of every step or every checkpoint does. The first half is left out, in which
allocators and caches fill.
"""

import gc
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from scipy.stats import theilslopes

#: What is measured, and by how much it may rise. A leak of one handle in a thousand
#: steps, or of 500 bytes a step, is one in a run of 20,000 steps.
BOUNDS = {
    'resident set, MiB': 4.0,
    'shared memory, MiB': 0.5,
    'handles': 0.9,
    'threads': 0.9,
    'temporary files': 0.9,
    'files of checkpoints': 0.9,
    'newest checkpoint, KiB': 16.0,
    'objects of Python': 500.0,
}
_SHARED = re.compile(r'^(\w+)-(\w+) .* (\d+) +/dev/shm/', re.MULTILINE)


@dataclass(frozen=True)
class Rise:
    """How a quantity went: its medians at the start and end of the second half.

    Attributes:
        quantity: A name of :data:`BOUNDS`.
        begin: Median of the first tenth of the second half.
        end: Median of its last tenth.
        rise: What the slope adds over the half.
    """

    quantity: str
    begin: float
    end: float
    rise: float

    @property
    def flat(self) -> bool:
        return self.rise < BOUNDS[self.quantity]


class Gauge:
    """Takes samples at equal distances.

    Args:
        work_dir: Where a run keeps its checkpoints; may have none.
        temporary: The folder of temporary files, of this run alone.
    """

    def __init__(self, work_dir: Path, temporary: Path) -> None:
        self.work_dir, self.temporary = work_dir, temporary
        self.samples: list[dict[str, float]] = []

    def take(self) -> None:
        """Measure."""
        gc.collect()
        checkpoints = _sizes(self.work_dir)
        main = psutil.Process()
        family = [main, *main.children(recursive=True)]
        self.samples.append(
            {
                'resident set, MiB': sum(p.memory_info().rss for p in family) / 2**20,
                'shared memory, MiB': _shared(family) / 2**20,
                'handles': sum(process.num_fds() for process in family),
                'threads': sum(process.num_threads() for process in family),
                'temporary files': len(list(self.temporary.rglob('*'))),
                'files of checkpoints': len(checkpoints),
                'newest checkpoint, KiB': checkpoints[-1] / 1024 if checkpoints else 0,
                'objects of Python': len(gc.get_objects()),
            }
        )

    def rises(self) -> list[Rise]:
        """How each quantity went over the second half."""
        half = self.samples[len(self.samples) // 2 :]
        return [rise(name, [sample[name] for sample in half]) for name in BOUNDS]


def rise(quantity: str, values: list[float]) -> Rise:
    """How a quantity went, of samples at equal distances."""
    tenth = max(1, len(values) // 10)
    slope = theilslopes(values).slope
    return Rise(
        quantity,
        begin=sorted(values[:tenth])[tenth // 2],
        end=sorted(values[-tenth:])[tenth // 2],
        rise=slope * (len(values) - 1),
    )


def _sizes(work_dir: Path) -> list[int]:
    """Sizes of the checkpoints in bytes, from the oldest to the newest."""
    found = []
    for path in work_dir.glob('*.pth'):
        # One may be removed meanwhile, by the thread that writes the next.
        with suppress(FileNotFoundError):
            stat = path.stat()
            found.append((stat.st_mtime, stat.st_size))
    return [size for _, size in sorted(found)]


def _shared(family: Iterable[psutil.Process]) -> int:
    """Bytes of the segments of shared memory that any of these processes maps."""
    segments = {}
    for process in family:
        for begin, end, inode in _SHARED.findall(
            Path(f'/proc/{process.pid}/maps').read_text()
        ):
            segments[inode] = int(end, 16) - int(begin, 16)
    return sum(segments.values())
