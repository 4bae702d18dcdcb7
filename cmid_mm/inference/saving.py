# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results as files, of images of any size."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..images.notices import say
from ..images.strips import unwritten
from .images import AnyImage, output_names
from .task import ErrorHandler, Task, booked_on
from .unfinished import Unfinished
from .windows import WindowGrid

#: What the system says of a disk, a quota or a file system that takes no more.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Saved:
    """The files of one result.

    Attributes:
        path: The image, or the first date of a pair.
        files: What was written.
        summary: What ``save_summary`` of the task needs of it.
        is_new: Whether it was predicted now, and not there already.
    """

    path: Path
    files: list[Path]
    summary: Any = None
    is_new: bool = True


class Saver:
    """Predicts images and writes the results, which need not fit into memory.

    Args:
        task: What is predicted.
        folder: Where the results go.
        settings: What the results depend on beside the image: config, weights.
    """

    def __init__(self, task: Task, folder: Path, settings: Mapping[str, Any]) -> None:
        self.task = task
        self.folder = folder
        self._settings = settings

    def predict(
        self,
        images: Sequence[Any],
        batch_size: int = 1,
        window: int | None = None,
        overlap: int | None = None,
        resume: bool = False,
        on_error: ErrorHandler | None = None,
    ) -> Iterator[Saved]:
        """Predict images; see :meth:`Inferencer.predict_to`."""
        paths = [_dates(image) for image in images]
        others = [path for dates in paths for path in dates[1:]]
        firsts = [dates[0] for dates in paths]
        known = output_names(firsts, self.folder, others)
        self._names = dict(zip(firsts, known, strict=True))
        remaining = []
        for image in images:
            files = self._finished(image) if resume else []
            if files:
                yield Saved(_dates(image)[0], files, is_new=False)
            else:
                remaining.append(image)
        for result in self.task.predict(
            remaining, batch_size, window, overlap, on_error, self._save_large
        ):
            if isinstance(result, Saved):
                yield result
                continue
            path = result.image.path
            with booked_on(path, on_error):
                files = self.task.save(result, self.folder, self._names[path])
                yield Saved(path, files, self.task.summary(result))

    def _finished(self, image: Any) -> list[Path]:
        """The files of an image whose result is there and newer than the image."""
        dates = _dates(image)
        files = self.task.saved_files(self.folder, self._names[dates[0]])
        with suppress(OSError):  # of remote images no time is known
            if any(
                file.stat().st_mtime < date.stat().st_mtime
                for file in files
                for date in dates
            ):
                return []
        return files

    def _save_large(self, image: AnyImage, grid: WindowGrid, batch_size: int) -> Saved:
        area = self.task.area
        settings = {
            **self._settings,
            **self.task.settings(),
            'image': [_version(path) for path in image.paths],
            'size': [grid.height, grid.width],
            'window': grid.size,
            'overlap': grid.overlap,
            'area': area and [_version(Path(area.path)), area.layer],
        }
        to = Unfinished(self.folder, self._names[image.path], settings)
        notice = to.begin()
        if notice:
            say(notice)
        try:
            files, summary = self.task.save_large(image, grid, batch_size, to)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise unwritten(to.target, error) from None
        return Saved(image.path, files, summary)


def weights_digest(model: nn.Module) -> str:
    """What tells the weights of a model from others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()


def _dates(image: Any) -> list[Path]:
    """The files of an image, or of a pair."""
    dates = image if isinstance(image, (tuple, list)) else [image]
    return [Path(date) for date in dates]


def _version(path: Path) -> list[Any]:
    """What tells a file from a later one of the same name, as far as it is known."""
    try:
        known = os.stat(path)
    except OSError:
        return [str(path)]
    return [os.path.abspath(path), known.st_size, known.st_mtime_ns]
