# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Account of training images that cannot be read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...datasets.imagery import ImageryDataset
from ...datasets.unreadable import SkipsUnreadable
from ...files import write_bytes
from ...ranges import Count

#: Name of the list in the work directory.
_LIST = 'unreadable.txt'


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Log, list and limit the unreadable images of a training set.

    Of an ``ImageryDataset``, or of labelled samples (``SkipsUnreadable``), also within
    data sets that repeat, balance or join them.

    Every ``interval`` iterations and at the end of training, the number of
    unreadable files goes to the log as ``train/unreadable_images``, that of windows
    without data as ``train/empty_windows``, the paths of the former to
    ``unreadable.txt`` in the work directory (once there are any; a resumed run adds to
    it), and training stops if they are more than the data set's ``max_unreadable``.
    Processes of a distributed run tell each other what they found. Other data sets are
    left alone.

    Args:
        interval (int): Iterations between two accounts. Defaults to 50.

    Raises:
        TooManyUnreadableError: If too many images are unreadable.
    """

    priority = 'NORMAL'

    def __init__(self, interval: Count = 50) -> None:
        self.interval = interval
        self._listed = 0
        self._known: list[str] = []

    def before_train(self, runner: Runner) -> None:
        """Keep what a resumed run has listed before."""
        file = Path(runner.work_dir, _LIST)
        if runner.iter > 0 and file.is_file():
            self._known = file.read_text(encoding='utf-8').splitlines()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Take account every ``interval`` iterations."""
        if self.every_n_train_iters(runner, self.interval):
            self._account(runner)
            for dataset in _watched(runner.train_dataloader.dataset):
                dataset.check_unreadable()

    def after_train(self, runner: Runner) -> None:
        """Take a last account, of a run that went well all the same."""
        self._account(runner)

    def _account(self, runner: Runner) -> None:
        datasets = list(_watched(runner.train_dataloader.dataset))
        if not datasets:
            return
        for dataset in datasets:
            dataset.share_unreadable()
        count = sum(dataset.unreadable_count for dataset in datasets)
        runner.message_hub.update_scalar('train/unreadable_images', count)
        for dataset in datasets:
            if isinstance(dataset, ImageryDataset) and dataset.tile_size is not None:
                empty = dataset.empty_count
                runner.message_hub.update_scalar('train/empty_windows', empty)
        if count > self._listed:
            self._listed = count
            paths = [path for each in datasets for path in each.unreadable_paths()]
            self._write(runner, paths)

    @dist.master_only
    def _write(self, runner: Runner, paths: Sequence[str]) -> None:
        # Those known before first, each once.
        listed = dict.fromkeys([*self._known, *paths])
        lines = ''.join(f'{path}\n' for path in listed)
        write_bytes(Path(runner.work_dir, _LIST), lines.encode())


def _watched(dataset: Any) -> Iterator[Any]:
    """Data sets that skip what they cannot read, also within wrappers."""
    if isinstance(dataset, (ImageryDataset, SkipsUnreadable)):
        yield dataset
        return
    inner = getattr(dataset, 'dataset', None)
    for part in getattr(dataset, 'datasets', () if inner is None else (inner,)):
        yield from _watched(part)
