# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Unlabelled imagery: any folder, or a list of paths."""

import glob
import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dataset.base_dataset import force_full_init
from mmengine.logging import print_log
from mmengine.registry import DATASETS, TRANSFORMS

from ..images import (
    NoValidPixelError,
    Reading,
    UnreadableImageError,
    Window,
    beside,
    find_images,
    is_image,
    is_missing,
    named_images,
    read_header,
    say_if_offsets_differ,
    tile_windows,
    without_masks,
)
from ..images.finding import ACCEPTED
from ..images.notices import say_once
from ..labels.lists import read_list
from .unreadable import (
    TooManyUnreadableError,
    check_max_unreadable,
    check_share,
    share_states,
)

# What is known of a sample: an empty window, the first of an unreadable file, or one
# of its further windows.
_USABLE, _EMPTY, _REST, _UNREADABLE = 0, 1, 2, 3

#: Other samples that are drawn, with replacement, for one that is unusable.
_DRAWS = 100


@DATASETS.register_module()
class ImageryDataset(BaseDataset):
    """Images without labels, for pre-training.

    Samples are numbered ``key``: image ``key % len(dataset)``, with an augmentation
    that depends on ``key`` alone, neither on the worker nor on what was loaded
    before. A sampler that yields ``key = epoch * len(dataset) + i`` makes a run
    reproducible and resumable with any number of workers. To that end every sample
    seeds the generators of ``numpy.random``, ``random`` and OpenCV in the process
    that loads it.

    A file that cannot be read is reported once, a window without data is counted;
    either is replaced by another sample, drawn from all with equal chances by ``key``
    alone: no sample is seen more often because of what lies beside it.

    Args:
        data_root (str): Folder that is searched for images at any depth; or one scene,
            a pattern such as ``scenes/*.tif``, or an address.
        ann_file (str): Text file with one image path a line, absolute or relative
            to ``data_root``; blank lines and lines that begin with ``#`` are
            ignored. An ann_file that is not absolute is itself relative to
            ``data_root``. Defaults to '', search the folder.
        pipeline (Sequence[dict | Callable]): Transforms. Defaults to ().
        tile_size (int, optional): Side in pixels of the windows into which larger
            images are divided, at the distance on the ground at which the pipeline
            loads them; only the window is read from formats that permit it
            (TIFF, JPEG 2000). Edge windows are shifted inwards to full size.
            Defaults to None, whole images.
        tile_overlap (int): Pixels that neighbouring windows share. Defaults to 0.
        max_unreadable (float): Share of unreadable files (0-1) above which training
            stops; one file is always tolerated unless this is 0. Defaults to 0.01.
        indices (int | Sequence[int], optional): Subset of samples, as in
            :class:`mmengine.dataset.BaseDataset`.
        serialize_data (bool): Keep the list of samples as bytes that workers
            share. Defaults to True.
        lazy_init (bool): Search for files at first use. Defaults to False.

    Raises:
        FileNotFoundError: If the folder, the list, a listed file or any image is
            missing.
        ValueError: If the tiling or ``max_unreadable`` is out of range.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        pipeline: Sequence[dict[str, Any] | Callable[..., Any]] = (),
        tile_size: int | None = None,
        tile_overlap: int = 0,
        max_unreadable: float = 0.01,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        lazy_init: bool = False,
    ) -> None:
        if tile_size is not None and tile_size < 1:
            raise ValueError(f'ImageryDataset: tile_size must be >= 1, got {tile_size}')
        if tile_overlap and not 0 <= tile_overlap < (tile_size or 0):
            raise ValueError(
                f'ImageryDataset: tile_overlap={tile_overlap} must be at least 0 and '
                f'smaller than tile_size={tile_size}'
            )
        check_max_unreadable(self, max_unreadable)
        self.tile_size = tile_size
        self.tile_overlap = tile_overlap
        self.max_unreadable = max_unreadable
        # Of mmpretrain or of this package, whatever the default scope is.
        transforms = [
            TRANSFORMS.build({'_scope_': 'mmpretrain', **step})
            if isinstance(step, dict)
            else step
            for step in pipeline
        ]
        super().__init__(
            ann_file=os.path.expanduser(ann_file),
            data_root=os.path.expanduser(data_root),
            pipeline=transforms,
            indices=indices,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
        )

    @property
    def reading(self) -> Reading:
        """How images are read, as the step of the pipeline that loads them says."""
        for step in self.pipeline.transforms:
            if isinstance(getattr(step, 'reading', None), Reading):
                return step.reading
        return Reading()

    # -- Finding the samples -----------------------------------------------------

    def full_init(self) -> None:
        """Find the samples and set up the record of unreadable ones."""
        if self._fully_initialized:
            return
        super().full_init()
        # In shared memory: what one worker finds unreadable, no other tries again.
        files = super().__len__()
        self._state = torch.zeros(files, dtype=torch.uint8).share_memory_()

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the samples: ``img_path`` and, of tiles, ``window``."""
        paths = self._paths()
        if self.tile_size is None:
            return [{'img_path': path} for path in paths]
        return [
            {'img_path': path, 'window': window}
            for path in paths
            for window in self._windows(path, self.tile_size)
        ]

    def _paths(self) -> list[str]:
        paths = self._listed_paths() if self.ann_file else self._found_paths()
        self._num_files = len(paths)
        say_if_offsets_differ(paths)
        return paths

    def _found_paths(self) -> list[str]:
        if is_missing(self.data_root) and not glob.has_magic(self.data_root):
            raise FileNotFoundError(
                f'data_root {self.data_root!r} does not exist. Set it to a folder '
                f'with images ({ACCEPTED}; subfolders are searched), to one scene or a '
                'pattern, or give a list of paths as ann_file'
            )
        is_folder = os.path.isdir(self.data_root)
        images = (find_images if is_folder else _named)(self.data_root)
        paths = [str(path) for path in without_masks(images, self.reading.quality)]
        if not paths:
            raise FileNotFoundError(
                f'data_root {self.data_root!r} holds no image, at any depth. Accepted '
                f'extensions, in upper or lower case: {ACCEPTED}. Convert other '
                'formats, or point data_root to the right folder'
            )
        return paths

    def _listed_paths(self) -> list[str]:
        if not os.path.isfile(self.ann_file):
            raise FileNotFoundError(
                f'ann_file {self.ann_file!r} does not exist. It is a text file with '
                f'one image path ({ACCEPTED}) a line, relative to data_root '
                f'{self.data_root!r}; leave it out to search data_root for images'
            )
        names = self._listed_names()
        paths = [beside(self.data_root, name) for name in names]
        absent = [path for path in paths if is_missing(path)]
        if absent:
            raise FileNotFoundError(
                f'{len(absent)} of {len(paths)} files that ann_file {self.ann_file!r} '
                f'lists do not exist, first {absent[0]!r}. Paths are relative to '
                f'data_root {self.data_root!r}; correct data_root or the list'
            )
        wrong = [
            name for name, path in zip(names, paths, strict=True) if not is_image(path)
        ]
        if wrong:
            raise ValueError(
                f'ann_file {self.ann_file!r} lists {len(wrong)} files with other '
                f'extensions than {ACCEPTED}, first {wrong[0]!r}. Remove these lines'
            )
        return paths

    def _listed_names(self) -> list[str]:
        return [name for _, name in read_list(self.ann_file)]

    def _windows(self, path: str, tile: int) -> Iterator[Window]:
        try:
            height, width = read_header(path, self.reading).shape
        except UnreadableImageError:
            # Reported, once, when it is loaded.
            height, width = tile, tile
        yield from tile_windows(height, width, tile, self.tile_overlap, path)

    # -- Loading a sample --------------------------------------------------------

    @force_full_init
    def __getitem__(self, key: int) -> Any:
        """Load sample ``key``.

        Args:
            key (int): Non-negative; image ``key % len(self)``, augmented as ``key``
                says.

        Returns:
            Any: What the pipeline makes of it.

        Raises:
            TooManyUnreadableError: If more files than ``max_unreadable`` permits,
                or all files, cannot be read.
        """
        _use_one_thread_in_workers()
        for info in self._candidates(key):
            _seed(key)
            try:
                return self.pipeline(info)
            except UnreadableImageError as error:
                self._record(info, error)
        raise TooManyUnreadableError(
            f'None of the {len(self)} samples of {self.ann_file or self.data_root!r} '
            'can be read'
        )

    def _candidates(self, key: int) -> Iterator[dict[str, Any]]:
        """Sample ``key``, and those that stand in for it should it be unusable."""
        for index in self._numbers(key):
            if self._is_usable(index):
                yield self.get_data_info(index)

    def _numbers(self, key: int) -> Iterator[int]:
        samples = len(self)
        yield key % samples
        rng = np.random.default_rng(key)
        for _ in range(_DRAWS):
            yield int(rng.integers(samples))
        # Hardly any is usable: each once, so that none is overlooked.
        yield from rng.permutation(samples).tolist()

    def _is_usable(self, index: int) -> bool:
        return int(self._state[index]) == _USABLE

    def _record(self, info: dict[str, Any], error: UnreadableImageError) -> None:
        index = info['sample_idx']
        if isinstance(error, NoValidPixelError) and 'window' in info:
            # The empty corner of a scene is no fault of the file.
            self._record_empty(index)
            say_once(
                'empty windows',
                f'{error}; such windows are replaced by others, drawn at random',
            )
            return
        # Nor will the other tiles of the file be tried; the first stands for it.
        path = info['img_path']
        first = index
        while first > 0 and self._path(first - 1) == path:
            first -= 1
        while index < len(self._state) and self._path(index) == path:
            index += 1
        self._state[first:index] = _REST
        self._state[first] = _UNREADABLE
        print_log(
            f'Skipped unreadable image: {error}', 'current', level=logging.WARNING
        )
        self.check_unreadable()

    def _record_empty(self, index: int) -> None:
        self._state[index] = _EMPTY

    def _path(self, index: int) -> str:
        return self.get_data_info(index)['img_path']

    # -- Unreadable files --------------------------------------------------------

    @force_full_init
    def share_unreadable(self) -> None:
        """Tell the other processes of a distributed run what is unreadable.

        All processes have to call this at the same iteration.
        """
        share_states(self._state)

    @property
    @force_full_init
    def unreadable_count(self) -> int:
        """Number of files found unreadable so far, by any worker."""
        return int((self._state == _UNREADABLE).sum())

    @property
    @force_full_init
    def empty_count(self) -> int:
        """Number of windows found to hold no data so far, by any worker."""
        return int((self._state == _EMPTY).sum())

    @force_full_init
    def unreadable_paths(self) -> list[str]:
        """Paths of the files found unreadable so far, by any worker."""
        indices = torch.nonzero(self._state == _UNREADABLE).flatten().tolist()
        return [self._path(index) for index in indices]

    def check_unreadable(self) -> None:
        """Stop when more files than tolerated are unreadable.

        Raises:
            TooManyUnreadableError: If so; the message lists files.
        """
        files = min(self._num_files, len(self._state))
        check_share(self, self.unreadable_paths(), files)


def _named(name: str) -> list[Path]:
    return named_images([name])


def _seed(key: int) -> None:
    state = np.random.SeedSequence(key).generate_state(4)
    np.random.seed(state)
    random.seed(state.tobytes())
    cv2.setRNGSeed(int(state[0] >> 1))


def _use_one_thread_in_workers() -> None:
    # OpenCV would start a pool of its own in each of many workers.
    if torch.utils.data.get_worker_info() is not None and cv2.getNumThreads() > 1:
        cv2.setNumThreads(0)
