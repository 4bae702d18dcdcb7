# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""How far a prediction is, and how long it will go on."""

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

#: Seconds to the first line where there is no terminal, and between two at least.
FIRST_LINE, LINES_APART = 10, 30


class Progress(Protocol):
    """Who is told how far a prediction is."""

    def start(self, images: int) -> None:
        """So many images are to be predicted."""

    def begin(self, path: Path, windows: int, done: int) -> None:
        """An image, or its share, is predicted from now on.

        Args:
            path: The image.
            windows: Those of it that are to be predicted, in all.
            done: Those that were predicted before.
        """

    def advance(self, windows: int) -> None:
        """So many windows more of the current image are predicted."""

    def finish(self, is_new: bool = True) -> None:
        """An image is finished.

        Args:
            is_new: Whether that took time. Defaults to True.
        """


class NoProgress:
    """Tells nobody."""

    def start(self, images: int) -> None:
        """Say nothing."""

    def begin(self, path: Path, windows: int, done: int) -> None:
        """Say nothing."""

    def advance(self, windows: int) -> None:
        """Say nothing."""

    def finish(self, is_new: bool = True) -> None:
        """Say nothing."""


class ShownProgress:
    """A bar on a terminal, elsewhere a line now and then; a context manager.

    Lines come the farther apart, the longer it takes: a run of a day has no more than
    some hundred. One that takes seconds has none.

    Args:
        label: Stands before everything. One of several processes has lines only.
            Defaults to ``'predicting'``, which has a bar.
        stream: Where to. Defaults to the standard error stream.
    """

    def __init__(self, label: str = 'predicting', stream: TextIO | None = None) -> None:
        self._images = 0
        self._stream = stream or sys.stderr
        self._label = label
        self._has_bar = self._stream.isatty() and label == 'predicting'
        self._bar = Bar(
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.fields[text]}'),
            console=Console(file=self._stream),
            transient=True,
            disable=not self._has_bar,
        )
        self._task = self._bar.add_task(label, text='')
        self._started = time.monotonic()
        self._next_line: float = FIRST_LINE
        self._finished = 0  # images
        self._path: Path | None = None
        self._windows = self._done = 0
        self._skipped = 0.0  # images, or shares of them, that were there before

    def start(self, images: int) -> None:
        """See :class:`Progress`."""
        self._images = images
        self._bar.update(self._task, total=images)

    def begin(self, path: Path, windows: int, done: int) -> None:
        """See :class:`Progress`."""
        self._path, self._windows, self._done = path, windows, done
        self._skipped += done / max(windows, 1)
        self._show()

    def advance(self, windows: int) -> None:
        """See :class:`Progress`."""
        self._done += windows
        self._show()

    def finish(self, is_new: bool = True) -> None:
        """See :class:`Progress`."""
        self._finished += 1
        self._skipped += not is_new
        self._path, self._windows, self._done = None, 0, 0
        self._show()

    def __enter__(self) -> 'ShownProgress':
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _show(self) -> None:
        share = self._finished + self._done / max(self._windows, 1)
        elapsed = time.monotonic() - self._started
        text = self._text(share, elapsed)
        self._bar.update(self._task, completed=share, text=text)
        if not self._has_bar and elapsed >= self._next_line:
            print(f'{self._label}: {text}', file=self._stream, flush=True)
            self._next_line = elapsed + max(LINES_APART, elapsed / 20)

    def _text(self, share: float, elapsed: float) -> str:
        parts = [f'{self._finished} of {self._images} images']
        if self._path is not None:
            parts.append(f'{self._path.name}: {self._done} of {self._windows} windows')
        predicted = share - self._skipped
        if predicted > 0:
            left = round(elapsed * (self._images - share) / predicted)
            parts.append(f'{timedelta(seconds=left)} left')
        return ', '.join(parts)
