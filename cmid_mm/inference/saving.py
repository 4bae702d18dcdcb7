# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Results as files, of images of any size."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import NO_ROOM
from ..images.notices import say
from ..images.strips import UnwrittenRasterError, bounded_cache, unwritten
from .booking import ErrorHandler, booked_on, path_of
from .images import AnyImage, output_names
from .shards import WHOLE, Shard, joined_summaries
from .task import Task
from .unfinished import Unfinished, remove_remains
from .windows import WindowGrid, chunks


@dataclass(frozen=True)
class Saved:
    """The files of one result.

    Attributes:
        path: The image, or the first date of a pair.
        files: What was written; nothing if other shards have not done their parts.
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
        shard: Shard = WHOLE,
    ) -> Iterator[Saved]:
        """Predict images; see :meth:`Inferencer.predict_to`."""
        paths = [_dates(image) for image in images]
        others = [path for dates in paths for path in dates[1:]]
        firsts = [dates[0] for dates in paths]
        known = output_names(firsts, self.folder, others)
        self._names = dict(zip(firsts, known, strict=True))
        self._shared = shard.total > 1
        self._shares: dict[Path, range | None] = dict.fromkeys(firsts)
        if self._shared:
            sizes = self.task.check_window(window, overlap)
            shares = self._plan(images, batch_size, *sizes, shard)
            self._shares = dict(zip(firsts, shares, strict=True))
        mine = {path for path in firsts if self._shares[path] != range(0)}
        self.task.progress.start(len(mine))
        skipped = set()
        for path, image in zip(firsts, images, strict=True):
            # Who is late must not begin anew what the others have finished.
            files = self._finished(image) if resume or self._shared else []
            if files and path in mine:
                skipped.add(path)
                remove_remains(self.folder / self._names[path])
                self.task.progress.finish(is_new=False)
                yield Saved(path, files, is_new=False)

        remaining = mine - skipped

        def is_wanted(image: Any) -> bool:
            return path_of(image) in remaining

        def fail(path: Path, error: Exception) -> None:
            self.task.progress.finish()
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                error = unwritten(self.folder / self._names[path], error)
            # A package that is missing, and a disk that is full, is it for all.
            if on_error is None or isinstance(
                error, ImportError | UnwrittenRasterError
            ):
                raise error
            on_error(path, error)

        summaries = []
        for result in self.task.predict(
            images, batch_size, window, overlap, fail, self._save_large, is_wanted
        ):
            if not isinstance(result, Saved):
                with booked_on(result.image.path, fail):
                    result = self._save(result)
            if isinstance(result, Saved):
                self.task.progress.finish()
                if result.files:
                    summaries.append(result.summary)
                yield result
        record = {**self._settings, 'images': [str(path) for path in firsts]}
        if self.task.has_summary:
            summaries = joined_summaries(summaries, self.folder, shard, record)
            if summaries:
                self.task.save_summary(summaries, self.folder)

    def _plan(
        self,
        images: Sequence[Any],
        batch_size: int,
        window: int,
        overlap: int,
        shard: Shard,
    ) -> list[range]:
        """Which strips of each image fall to a shard; one of an image without any.

        Images that are batched fall to one shard together.
        """
        weights: list[list[int]] = []
        firsts: list[int] = []  # of each image the one with which it goes
        for batch in chunks(images, batch_size):
            together = None
            for image in batch:
                firsts.append(len(weights))
                weights.append(self._weights(image, window, overlap))
                if len(weights[-1]) == 1:
                    if together is None:
                        together = firsts[-1]
                    else:
                        weights[together][0] += weights[-1][0]
                        weights[-1] = []
                        firsts[-1] = together
        shares = shard.shares(weights)
        return [shares[first] for first in firsts]

    def _weights(self, image: Any, window: int, overlap: int) -> list[int]:
        """Windows in each strip of an image."""
        with suppress(Exception):  # who predicts it says what is wrong
            opened = self.task.open(image)
            size = opened.height, opened.width
            if window and max(size) > window:
                grid = WindowGrid(*size, window, overlap)
                return [len(grid.lefts)] * len(grid.strips)
        return [1]

    def _save(self, result: Any) -> Saved:
        path = result.image.path
        files = self.task.save(result, self.folder, self._names[path])
        return Saved(path, files, self.task.summary(result))

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
        name = self._names[image.path]
        to = Unfinished(self.folder, name, settings, self._shared)
        notice = to.begin()
        if notice:
            say(notice)
        if files := self._finished_by_others(image):
            to.remove()
            return Saved(image.path, files, is_new=False)
        try:
            with bounded_cache():
                return self._predict_share(image, grid, batch_size, to)
        except Exception:
            to.give_up()
            # Whoever works on the same strips, by mistake, may have been first.
            if files := self._finished_by_others(image):
                return Saved(image.path, files)
            raise

    def _finished_by_others(self, image: AnyImage) -> list[Path]:
        return self._finished(list(image.paths)) if self._shared else []

    def _predict_share(
        self, image: AnyImage, grid: WindowGrid, batch_size: int, to: Unfinished
    ) -> Saved:
        """Predict what falls to this process, and join what all have predicted."""
        share = self._shares[image.path] or grid.strips
        runs = list(to.remaining(share))
        columns = len(grid.lefts)
        done = columns * (len(share) - sum(map(len, runs)))
        windows = columns * sum(len(grid.reaching(run)) for run in runs) + done
        self.task.progress.begin(image.path, windows, done)
        for run in runs:
            self.task.write_strips(image, grid, run, batch_size, to)
        if not to.is_done(grid.strips):
            return Saved(image.path, [])
        return Saved(image.path, *self.task.join_strips(image, grid, to))


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
