# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Tasks that find few things in each window of a large image: boxes, classes."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import NoValidPixelError, Window
from .areas import OutsideAreaError
from .booking import no_data
from .images import AnyImage
from .task import Task
from .unfinished import Unfinished
from .windows import WindowGrid

#: What was found in a window or several: arrays of equal length, by their names.
Findings = dict[str, NDArray[Any]]

_ENDING = '.npz'


class FindingTask(Task):
    """A task whose result of a large image is made of what each window shows.

    All of it is in memory, whatever the size of the image: it is small.
    """

    def found(self, window: Window, prediction: Any) -> Findings:
        """What a window shows, in pixels of the image; at least one array."""
        raise NotImplementedError

    def merged(self, image: AnyImage, grid: WindowGrid, findings: Findings) -> Any:
        """The result of an image, of what all windows show."""
        raise NotImplementedError

    def large_result(self, image: AnyImage, grid: WindowGrid, batch_size: int) -> Any:
        """The result of an image from what its windows show."""
        rows = self._rows(image, grid, grid.strips, batch_size)
        return self._merged(image, grid, [findings for _, findings in rows])

    def write_strips(
        self,
        image: AnyImage,
        grid: WindowGrid,
        strips: range,
        batch_size: int,
        to: Unfinished,
    ) -> None:
        """Write what some rows of windows show."""
        with closing(self._rows(image, grid, strips, batch_size)) as rows:
            for row, findings in rows:
                np.savez(to.draft(row, _ENDING), **dict[str, Any](findings))
                to.settle(row, [_ENDING], bool(findings))

    def join_strips(
        self, image: AnyImage, grid: WindowGrid, to: Unfinished
    ) -> tuple[list[Path], Any]:
        """Write what :meth:`save` does."""
        rows = []
        for row in grid.strips:
            with np.load(to.part(row, _ENDING)) as stored:
                rows.append(dict(stored))
        try:
            result = self._merged(image, grid, rows)
        except (NoValidPixelError, OutsideAreaError):
            to.remove()  # it would be no other the next time
            raise
        files = self.save(result, to.target.parent, to.target.name)
        to.remove()
        return files, self.summary(result)

    def _rows(
        self, image: AnyImage, grid: WindowGrid, rows: range, batch_size: int
    ) -> Generator[tuple[int, Findings], None, None]:
        """What rows of windows show; nothing where no window holds data."""
        predictions = self.predict_windows(image, grid, rows, batch_size)
        upcoming = next(predictions, None)
        for row in rows:
            windows: list[Findings] = []
            while upcoming is not None and upcoming[0][0] == grid.tops[row]:
                windows.append(self.found(*upcoming[:2]))
                upcoming = next(predictions, None)
            yield row, _joined(windows)

    def _merged(self, image: AnyImage, grid: WindowGrid, rows: list[Findings]) -> Any:
        findings = _joined([row for row in rows if row])
        if not findings:
            raise no_data(image)
        return self.merged(image, grid, findings)


def _joined(findings: list[Findings]) -> Findings:
    names = findings[0] if findings else ()
    return {name: np.concatenate([each[name] for each in findings]) for name in names}
