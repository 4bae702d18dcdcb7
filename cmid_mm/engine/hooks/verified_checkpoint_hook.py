# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints of which none is lost, whatever happens while one is written.

A run saves through :class:`VerifiedCheckpointHook` at its intervals; who has to save
between them calls :func:`save_now`.
"""

import copy
import os
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...building import nearest_name
from ...checkpoints import CheckpointError
from ...files import hold_folder, remove_part_files, write_bytes
from ...ranges import Count
from ..atomic_backend import handed_to
from ..checkpoint_writer import CheckpointWriter


@HOOKS.register_module()
class VerifiedCheckpointHook(CheckpointHook):
    """mmengine's checkpoints, written beside the training and proven before others go.

    A checkpoint is written under a temporary name, sent to the disk, read again, and
    its checksums are compared; only then it gets its name, ``last_checkpoint`` names
    it, and an older one is removed. Training waits for none of this but the copy of
    its state in memory. If a checkpoint cannot be written, that is said, counted and
    said again at the end, and training goes on.

    Args:
        max_keep_ckpts: As in mmengine, but at least two are kept: of one, nothing
            would be left were it damaged. Defaults to -1, all.
        max_failures: After how many saves in a row that failed the run stops, when the
            next one is due. Defaults to 3.
        **kwargs: As in mmengine.
    """

    file_backend: Any
    last_ckpt: str | None
    best_ckpt_path: str | None

    def __init__(
        self,
        *args: Any,
        max_keep_ckpts: int = -1,
        max_failures: Count = 3,
        **kwargs: Any,
    ) -> None:
        if max_keep_ckpts > 0:
            max_keep_ckpts = max(2, max_keep_ckpts)
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self.max_failures = max_failures
        self._held: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Remove what killed saves have left, and get ready to write.

        Raises:
            BlockingIOError: If another run saves in the same folder.
        """
        super().before_train(runner)
        if dist.is_main_process() and isinstance(self.file_backend, LocalBackend):
            self._held = hold_folder(Path(self.out_dir))
        self._keep_best_here()
        hub = runner.message_hub
        # mmengine's own list is of numbers alone, and made before the file stands.
        known = map(self.filename_tmpl.format, hub.pop_info('keep_ckpt_ids', []))
        self._kept: list[str] = hub.get_info('kept_ckpts', list(known))
        self._proven: str | None = hub.get_info('last_ckpt')
        self._writer = CheckpointWriter(self.file_backend, runner.logger)
        if dist.is_main_process() and isinstance(self.file_backend, LocalBackend):
            for part in remove_part_files(Path(self.out_dir), '*.pth'):
                runner.logger.warning(f'{part} is of a save that was killed: removed')
        # mmengine's hook removes the best checkpoint before it saves a better one.
        self.file_backend = _PostponedRemoval(self.file_backend)
        # It hands them to runner.save_checkpoint.
        self.backend_args = dict(backend='handing')
        self.file_client_args = None

    def after_train(self, runner: Runner) -> None:
        """Wait for the last checkpoint; say how many could not be saved.

        Raises:
            CheckpointError: If the last one could not be.
        """
        self._writer.wait()
        if self._writer.failed:
            runner.logger.error(
                f'{self._writer.failed} saves of checkpoints FAILED in this run; see '
                'the errors above'
            )
        self._agree(1)
        self.last_ckpt = self._proven
        super().after_train(runner)
        if self._held is not None:
            os.close(self._held)

    def finish_writing(self) -> None:
        """Wait for what is being written."""
        if hasattr(self, '_writer'):  # training has begun
            self._writer.wait()

    def save_now(self, runner: Runner) -> str:
        """Save what the current iteration led to, and wait until it is on the disk.

        For hooks, in ``after_train_iter``, on all processes at the same iteration.
        The checkpoint is like the others, and counts among those that are kept.

        Returns:
            Path of the checkpoint.

        Raises:
            CheckpointError: If it could not be saved.
        """
        self._save_at(runner, runner.iter + 1)
        self._agree(1)
        return str(self.last_ckpt)

    def save_in_first(self, runner: Runner, iteration: int) -> str:
        """Save after a number of iterations, between two, in the first process alone.

        Returns:
            Path of the checkpoint.

        Raises:
            CheckpointError: If it could not be saved.
        """
        self._save_at(runner, iteration)
        self._refuse(self._writer.failures, 1)
        return str(self.last_ckpt)

    def _save_at(self, runner: Runner, step: int) -> None:
        name = f'iter_{step}.pth' if self.by_epoch else self.filename_tmpl.format(step)
        self._save(runner, name, dict(epoch=runner.epoch, iter=step))
        self._writer.wait()

    def _save_checkpoint(self, runner: Runner) -> None:
        self._writer.wait()
        self._agree(self.max_failures)
        super()._save_checkpoint(runner)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict[str, Any]
    ) -> None:
        self._save(runner, self.filename_tmpl.format(step), meta)

    def _save(self, runner: Runner, name: str, meta: dict[str, Any]) -> None:
        """Save; what is too old goes when the new one is proven."""
        self._writer.wait()
        kept = [*(old for old in self._kept if old != name), name]
        surplus = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        kept = kept[len(surplus) :]
        path = self.last_ckpt = self._path(name)
        runner.message_hub.update_info('kept_ckpts', kept)
        runner.message_hub.update_info('last_ckpt', path)

        def record() -> None:
            write_bytes(Path(runner.work_dir, 'last_checkpoint'), path.encode(), True)
            self._proven, self._kept = path, kept
            self.file_backend.remove_now(map(self._path, surplus))

        with handed_to(lambda file, content: self._writer.start(file, content, record)):
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
            )

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Save a better checkpoint; if that fails, the one before is still the best.

        Raises:
            ValueError: If the validation has no metric of the name that decides.
        """
        for name in self.key_indicators if self.save_best else []:
            if name != 'auto' and name not in metrics:
                raise ValueError(
                    f'default_hooks.checkpoint.save_best={name!r}: the validation has '
                    f'no such metric{nearest_name(name, list(metrics))}'
                )
        self._writer.wait()
        hub = runner.message_hub
        before = {
            name: hub.get_info(name)
            for name in hub.runtime_info
            if name.startswith(('best_score', 'best_ckpt'))
        }
        paths = {
            name: copy.copy(getattr(self, name))
            for name in ('best_ckpt_path', 'best_ckpt_path_dict')
            if hasattr(self, name)
        }
        try:
            with handed_to(self._write_best):
                super()._save_best_checkpoint(runner, metrics)
        except _NotSavedError:
            for name in list(hub.runtime_info):
                if name.startswith(('best_score', 'best_ckpt')):
                    hub.pop_info(name)
            for name, value in before.items():
                hub.update_info(name, value)
            for name, value in paths.items():
                setattr(self, name, value)

    def _write_best(self, path: str, content: bytes) -> None:
        worse = [old for old in self.file_backend.postponed if old != path]
        self.file_backend.postponed.clear()
        failures = self._writer.failures
        if not self._writer.write(
            path, content, lambda: self.file_backend.remove_now(worse)
        ):
            raise _NotSavedError
        # It may be without the optimiser, and small: a run cannot go on from it.
        self._writer.failures = failures

    def _keep_best_here(self) -> None:
        """Take the best checkpoints for those of this folder.

        A resumed run knows them by their paths; in a copy of a work folder these are
        in the original, whose best one would go for a better one of the copy.
        """
        if path := getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._path(Path(path).name)
        by_metric = getattr(self, 'best_ckpt_path_dict', {})
        for metric, path in by_metric.items():
            by_metric[metric] = path and self._path(Path(path).name)

    def _path(self, name: str) -> str:
        return str(self.file_backend.join_path(self.out_dir, name))

    def _agree(self, limit: int) -> None:
        """Stop all processes if the one that writes has failed so often in a row."""
        failures = [self._writer.failures]
        dist.broadcast_object_list(failures)
        self._refuse(failures[0], limit)

    def _refuse(self, failures: list[str], limit: int) -> None:
        if len(failures) >= limit:
            stands = self._proven or 'not there: nothing was saved'
            raise CheckpointError(
                f'{len(failures)} saves in a row failed, the last that of '
                f'{failures[-1]}; the reasons stand above. The last checkpoint '
                f'that stands is {stands}. Make room, or make '
                f'{self.out_dir} writable, and go on with --resume; to let more saves '
                'fail, set default_hooks.checkpoint.max_failures'
            )


def save_now(runner: Runner) -> str:
    """Save by the run's hook; see :meth:`VerifiedCheckpointHook.save_now`.

    Raises:
        CheckpointError: If the run has no such hook, or it could not save.
    """
    for hook in runner.hooks:
        if isinstance(hook, VerifiedCheckpointHook):
            return hook.save_now(runner)
    raise CheckpointError(
        'the run saves no checkpoints: its config has no default_hooks.checkpoint of '
        'type VerifiedCheckpointHook'
    )


class _NotSavedError(Exception):
    """A checkpoint could not be written, which has been said."""


class _PostponedRemoval:
    """A file backend that only notes what to remove."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.postponed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self.postponed.append(path)

    def remove_now(self, paths: Any) -> None:
        for path in paths:
            if self._backend.isfile(path):
                self._backend.remove(path)
