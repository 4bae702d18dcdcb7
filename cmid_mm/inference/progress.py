# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How far a prediction is, and how long it will go on."""

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

#: Seconds to the first line where there is no terminal, and between two at least.
FIRST_LINE, LINES_APART = 10, 30


class PredictionProgress:
    """A bar on a terminal, elsewhere a line now and then; a context manager.

    Lines come the farther apart, the longer it takes: a run of a day has no more than
    some hundred. One that takes seconds has none.

    Args:
        images: Number of images to predict.
        stream: Where to. Defaults to the standard error stream.
        label: Stands before everything, as ``shard 2/3``.
    """

    def __init__(
        self, images: int, stream: TextIO | None = None, label: str = 'predicting'
    ) -> None:
        self._images = images
        self._stream = stream or sys.stderr
        self._label = label
        self._is_terminal = self._stream.isatty()
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.fields[text]}'),
            console=Console(file=self._stream),
            transient=True,
            disable=not self._is_terminal,
        )
        self._task = self._bar.add_task(label, total=images, text='')
        self._started = time.monotonic()
        self._next_line: float = FIRST_LINE
        self._finished = 0  # images
        self._path: Path | None = None
        self._windows = self._done = 0
        self._skipped = 0.0  # images, or shares of them, that were there before

    def begin(self, path: Path, windows: int = 1, done: int = 0) -> None:
        """An image, or its share, is predicted from now on.

        Args:
            path: The image.
            windows: Those of it that are to be predicted, in all.
            done: Those that were predicted before.
        """
        self.end()
        self._path, self._windows, self._done = path, windows, done
        self._skipped += done / max(windows, 1)
        self._show()

    def advance(self, windows: int = 1) -> None:
        """So many windows more of the current image are predicted."""
        self._done += windows
        self._show()

    def end(self) -> None:
        """The current image is finished, if there is one."""
        self._finished += self._path is not None
        self._path, self._windows, self._done = None, 0, 0
        self._show()

    def skip(self) -> None:
        """An image is there already."""
        self._finished += 1
        self._skipped += 1

    def __enter__(self) -> 'PredictionProgress':
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def _show(self) -> None:
        share = self._finished + self._done / max(self._windows, 1)
        elapsed = time.monotonic() - self._started
        text = self._text(share, elapsed)
        self._bar.update(self._task, completed=share, text=text)
        if not self._is_terminal and elapsed >= self._next_line:
            print(f'{self._label}: {text}', file=self._stream, flush=True)
            self._next_line = elapsed + max(LINES_APART, elapsed / 20)

    def _text(self, share: float, elapsed: float) -> str:
        parts = [f'{self._finished} of {self._images} images']
        if self._windows > 1 and self._path is not None:
            parts.append(f'{self._path.name}: {self._done} of {self._windows} windows')
        predicted = share - self._skipped
        if predicted > 0:
            left = round(elapsed * (self._images - share) / predicted)
            parts.append(f'{timedelta(seconds=left)} left')
        return ', '.join(parts)
