# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Writing checkpoints beside the training, and going on when one cannot be written."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend

from ..checkpoints import CheckpointError
from ..checkpoints.damage import damaged_entry
from ..files import send_to_disk, whole_file


class CheckpointWriter:
    """Writes one checkpoint at a time, in a thread of its own.

    What it is given are bytes, so that training can change what they were made from. A
    file gets its name only after it has reached the disk, has been read again from
    there, and its checksums were right.

    Args:
        backend: Where files go. What is said above holds for files of this machine;
            other storages get the bytes as they are.
        logger: Is told of failures.

    Attributes:
        failures: Files that could not be written since the last that could.
        failed: How many could not be written in all.
    """

    def __init__(self, backend: Any, logger: logging.Logger) -> None:
        self.failures: list[str] = []
        self.failed = 0
        self._backend = backend
        self._logger = logger
        self._thread: threading.Thread | None = None

    def start(
        self, path: str, content: bytes, then: Callable[[], None] | None = None
    ) -> None:
        """Begin to write a file, once the one before is written.

        Args:
            path: The file.
            content: What it shall hold.
            then: Called in the thread once the file is there.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self.write, args=(path, content, then), name=f'writes {path}'
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was begun is written, or has failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def write(
        self, path: str, content: bytes, then: Callable[[], None] | None = None
    ) -> bool:
        """Write a file now; say and count it if that fails.

        Args:
            path: The file; one that is there stays until the new one is proven.
            content: What it shall hold.
            then: Called once the file is there.

        Returns:
            Whether it was written.
        """
        try:
            if isinstance(self._backend, LocalBackend):
                _write_proven(Path(path), content)
            else:
                self._backend.put(content, path)
            if then is not None:
                then()
        # Storages have errors of their own.
        except Exception as error:
            self.failures.append(path)
            self.failed += 1
            reason = getattr(error, 'strerror', None) or error
            self._logger.error(
                f'{path} could NOT be saved: {reason}. Training goes on, and the '
                'checkpoint before it was kept; make room, or make the folder '
                f'writable. Saves that failed in a row: {len(self.failures)}.'
            )
            return False
        self.failures = []
        return True


def _write_proven(path: Path, content: bytes) -> None:
    with whole_file(path, sync=True) as part:
        part.write_bytes(content)
        send_to_disk(part)
        if entry := damaged_entry(part):
            raise CheckpointError(
                f'what was read from the disk again is not what was written: {entry}'
            )
