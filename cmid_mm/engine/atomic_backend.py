# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""File writing that never leaves a half-written file behind."""

import os
import tempfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


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
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise


register_backend('atomic_local', AtomicLocalBackend, force=True)
