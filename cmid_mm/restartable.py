# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Folders of data that are made piece by piece, and gone on with after a stop."""

import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from .being_read import last_read
from .files import write_bytes

#: Says in a folder that is not finished what it is made from.
UNFINISHED = '.unfinished.json'


class OtherSettingsError(FileExistsError):
    """A folder was made by the same tool with other settings."""


@dataclass(frozen=True)
class Job:
    """A piece of the work that is done completely or not at all.

    Args:
        outputs: The files that it writes, each atomically (see
            :mod:`cmid_mm.files`); they say whether it was done.
        write: Writes them. It goes to other processes: a ``functools.partial`` of a
            function of the module.
    """

    outputs: tuple[Path, ...]
    write: Callable[[], None]

    def is_done(self) -> bool:
        """Whether all outputs exist."""
        return all(path.exists() for path in self.outputs)


@dataclass(frozen=True)
class RestartableFolder:
    """A folder that settings determine.

    Until it is finished it holds :data:`UNFINISHED` with the settings, from then on a
    record of them. So a repeated command knows whether to go on, to leave the folder
    as it is, or to refuse it.

    Args:
        path: The folder.
        settings: Everything that its content depends on; as JSON has it.
        record: Name of the record.
    """

    path: Path
    settings: Mapping[str, Any]
    record: str = 'prepared.json'

    def is_complete(self) -> bool:
        """Whether the folder is finished; it is not changed.

        Raises:
            OtherSettingsError: If it was made or begun with other settings.
            FileExistsError: If it holds something else.
        """
        for name in (self.record, UNFINISHED):
            file = self.path / name
            if file.exists():
                self._require_same(json.loads(file.read_text(encoding='utf-8')))
                return name == self.record
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(
                f'{self.path} is not empty and was not made by this tool; give a new '
                'folder'
            )
        return False

    def _require_same(self, found: Any) -> None:
        wanted = json.loads(json.dumps(self.settings))
        if found != wanted:
            had, has = (
                ', '.join(
                    f'{key}={value!r}'
                    for key, value in these.items()
                    if key not in others or others[key] != value
                )
                for these, others in ((found, wanted), (wanted, found))
            )
            raise OtherSettingsError(
                f'{self.path} was made with {had or "less"}, not with '
                f'{has or "less"}; give another folder, or remove it first'
            )

    def begin(self) -> None:
        """Make the folder, or go on with one that was begun."""
        if not self.is_complete() and not (self.path / UNFINISHED).exists():
            self._write(UNFINISHED)

    def abandon(self) -> None:
        """Remove the folder if nothing was put into it."""
        if os.listdir(self.path) == [UNFINISHED]:
            (self.path / UNFINISHED).unlink()
            self.path.rmdir()

    def finish(self) -> None:
        """Say that the folder is complete."""
        self._write(self.record)
        (self.path / UNFINISHED).unlink()

    def _write(self, name: str) -> None:
        content = json.dumps(self.settings, indent=2) + '\n'
        write_bytes(self.path / name, content.encode())


def run_jobs(
    jobs: Sequence[Job],
    workers: int = 1,
    description: str = 'preparing',
    progress: bool = True,
) -> None:
    """Do what is not done yet.

    Args:
        jobs: All jobs, in any order.
        workers: Number of processes; 1 works in this one.
        description: Stands before the progress bar.
        progress: Whether there is one.
    """
    remaining = [job for job in jobs if not job.is_done()]
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    done = len(jobs) - len(remaining)
    task = bar.add_task(description, total=len(jobs), completed=done)
    if workers == 1:
        with bar:
            for job in remaining:
                job.write()
                bar.advance(task)
        return
    threads = cv2.getNumThreads()
    # Ends OpenCV's own threads: a forked process could not, and would wait for ever.
    cv2.setNumThreads(1)
    try:
        _run_in_processes(remaining, workers, bar, task)
    finally:
        cv2.setNumThreads(threads)


def _run_in_processes(
    jobs: Sequence[Job], workers: int, bar: Progress, task: TaskID
) -> None:
    with ProcessPoolExecutor(
        workers, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        # Before the bar starts its thread: processes must not fork beside one.
        futures = [pool.submit(job.write) for job in jobs]
        processes = [child.pid for child in multiprocessing.active_children()]
        with bar:
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.advance(task)
            except BrokenProcessPool:
                raise ChildProcessError(_text_of_death(processes)) from None
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _text_of_death(processes: Sequence[int | None]) -> str:
    read = [last_read(process) for process in processes if process is not None]
    names = [last.name for last in read if last is not None and last.now]
    return (
        'a worker process was killed'
        + (f' while these files were read: {", ".join(names)}' if names else '')
        + '; if nobody else has done it, the system was out of memory (dmesg says so): '
        'use fewer workers. The same command goes on where it stopped'
    )
