# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Errors of single images, which need not stop the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..images import NoValidPixelError, image_path
from .images import AnyImage

ErrorHandler = Callable[[Path, Exception], None]


@contextmanager
def booked_on(item: Any, on_error: ErrorHandler | None) -> Iterator[None]:
    """Hand an error to whoever takes account of it, with its image."""
    try:
        yield
    except Exception as error:
        if on_error is None:
            raise
        on_error(path_of(item), error)


def ignore(path: Path, error: Exception) -> None:
    """Take no account of an error, of an image that nobody asked for."""


def path_of(item: Any) -> Path:
    """The image, or the first date of a pair."""
    return image_path(item[0] if isinstance(item, (tuple, list)) else item)


def no_data(image: AnyImage) -> NoValidPixelError:
    """The error of an image without data."""
    return NoValidPixelError(f'{image.path}: no window holds data in all bands')
