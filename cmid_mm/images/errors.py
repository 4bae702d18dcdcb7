# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What can be wrong with an image."""


class UnreadableImageError(OSError):
    """The pixels of a file cannot be read; the message names file and reason."""


class NoValidPixelError(UnreadableImageError):
    """No pixel of an image or window holds data, or none in one of its bands."""


class BandMismatchError(ValueError):
    """A file does not have the bands that the pipeline expects."""


class PlaceMismatchError(ValueError):
    """Two images that belong together do not lie on the same ground."""
