# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""File writing that never leaves a half-written file behind."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..files import write_bytes


class AtomicLocalBackend(LocalBackend):
    """Local files, written beside their place and moved there when complete.

    A run killed while it writes a checkpoint keeps the previous one whole. Use
    ``backend_args=dict(backend='atomic_local')`` in a ``CheckpointHook`` of mmengine;
    :class:`cmid_mm.engine.hooks.VerifiedCheckpointHook` does it unasked.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file, creating its folder.

        Args:
            obj (bytes): Content.
            filepath (str | Path): Destination.

        Raises:
            OSError: If the file cannot be written; the destination is untouched.
        """
        write_bytes(Path(filepath), obj, sync=True)


register_backend('atomic_local', AtomicLocalBackend, force=True)


class HandingBackend(LocalBackend):
    """Gives what mmengine would write to a function; see :func:`handed_to`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Hand content and destination over."""
        _receiver.get()(str(filepath), obj)


#: Backends are made by mmengine from their names, which cannot carry a function.
_receiver: ContextVar[Callable[[str, bytes], None]] = ContextVar('receiver')


@contextlib.contextmanager
def handed_to(write: Callable[[str, bytes], None]) -> Iterator[None]:
    """Let a function have what is put into the backend ``'handing'`` meanwhile."""
    token = _receiver.set(write)
    try:
        yield
    finally:
        _receiver.reset(token)


register_backend('handing', HandingBackend, force=True)
