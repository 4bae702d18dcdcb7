# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Account of training images that cannot be read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...datasets.imagery import ImageryDataset
from ...files import write_bytes
from ...ranges import Count

#: Name of the list in the work directory.
_LIST = 'unreadable.txt'


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Log, list and limit the unreadable images of an ``ImageryDataset``.

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
            dataset = runner.train_dataloader.dataset
            if isinstance(dataset, ImageryDataset):
                dataset.check_unreadable()

    def after_train(self, runner: Runner) -> None:
        """Take a last account, of a run that went well all the same."""
        self._account(runner)

    def _account(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, ImageryDataset):
            return
        dataset.share_unreadable()
        count = dataset.unreadable_count
        runner.message_hub.update_scalar('train/unreadable_images', count)
        if dataset.tile_size is not None:
            empty = dataset.empty_count
            runner.message_hub.update_scalar('train/empty_windows', empty)
        if count > self._listed:
            self._listed = count
            self._write(runner, dataset.unreadable_paths())

    @dist.master_only
    def _write(self, runner: Runner, paths: Sequence[str]) -> None:
        # Those known before first, each once.
        listed = dict.fromkeys([*self._known, *paths])
        lines = ''.join(f'{path}\n' for path in listed)
        write_bytes(Path(runner.work_dir, _LIST), lines.encode())
