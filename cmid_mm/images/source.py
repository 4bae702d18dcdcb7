# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What decodes an image."""

from typing import Protocol

from .pixels import Header, Pixels, Window


class Source(Protocol):
    """A decoder of one image."""

    header: Header

    def read(
        self,
        bands: list[int],
        window: Window,
        min_size: int | None = None,
        marker: float | None = None,
    ) -> Pixels:
        """Read values of some bands."""
        ...

    def read_indices(self, window: Window | None = None) -> Pixels:
        """Read values as stored."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
