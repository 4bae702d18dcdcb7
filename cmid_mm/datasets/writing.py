# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there."""

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def part_file(path: Path) -> Path:
    """Where a file is written before it gets its name; makes its folder.

    Args:
        path (Path): The file to be.

    Returns:
        Path: A name beside it that no other process uses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f'{path.name}.{os.getpid()}.part')


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, and the folders that it needs.

    Args:
        path (Path): The file; one that exists is replaced.
        content (bytes): What it shall hold.
    """
    part = part_file(path)
    part.write_bytes(content)
    part.replace(path)


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write an 8-bit RGB image or a mask.

    Args:
        path (Path): The file. ``.jpg`` gives a JPEG of quality 92, ``.png`` a PNG.
        image (np.ndarray): uint8 RGB (H, W, 3) or mask (H, W).
    """
    if image.ndim == 3:
        image = image[..., ::-1]  # OpenCV writes BGR
    quality = (
        [cv2.IMWRITE_JPEG_QUALITY, 92]
        if path.suffix == '.jpg'
        else [cv2.IMWRITE_PNG_COMPRESSION, 4]
    )
    _, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image), quality)
    write_bytes(path, encoded.tobytes())


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot.

    Args:
        source (Path): The file.
        path (Path): Its new name; one that exists is replaced.
    """
    part = part_file(path)
    try:
        os.link(source.resolve(), part)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, part)
    part.replace(path)
