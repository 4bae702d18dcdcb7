# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""File writing that never leaves a half-written file behind."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from ..files import write_bytes


class AtomicLocalBackend(LocalBackend):
    """Local files, written beside their place and moved there when complete.

    A run killed while it writes a checkpoint keeps the previous one whole. Use
    ``backend_args=dict(backend='atomic_local')`` in a ``CheckpointHook``.
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
