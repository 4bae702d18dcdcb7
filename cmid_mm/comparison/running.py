# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Running the cells of a comparison, and going on after an interruption."""

import fcntl
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ..configs import load_config
from ..files import write_bytes
from .cells import Cell, RunConfig, Step
from .form import SpecError

#: Name of the file in which a cell keeps what was run and what came out.
RECORD = 'record.json'


_NUMBER = (int, float)


class CommandFailed(RuntimeError):
    """A command of a cell ended with an error."""


def read_record(cell: Cell) -> dict[str, dict[str, Any]]:
    """What a cell has done so far: for each begun step its hash, commands, metrics.

    Raises:
        SpecError: If the file is damaged.
    """
    file = cell.folder / RECORD
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SpecError(f'{file} is damaged; remove {cell.folder}') from error


def valid_record(cell: Cell) -> dict[str, dict[str, Any]]:
    """What a cell has done so far with the settings that its steps have now."""
    try:
        record = read_record(cell)
    except SpecError:
        return {}
    hashes = {step.name: step.config_hash for step in cell.steps}
    return {
        name: entry
        for name, entry in record.items()
        if entry['config_hash'] == hashes.get(name)
    }


def check_records(cells: Sequence[Cell]) -> None:
    """Refuse to mix results of different settings.

    Raises:
        SpecError: If steps were begun with other settings than the comparison's;
            names all of them.
    """
    others = []
    for cell in cells:
        record = read_record(cell)
        for step in cell.steps:
            known = record.get(step.name, {}).get('config_hash', step.config_hash)
            if known != step.config_hash:
                others.append(f'{step.name} of {cell.folder} ({known})')
    if others:
        raise SpecError(
            f'these were run with other settings: {", ".join(others)}; remove the '
            'folders, put the settings back, or choose another output'
        )


def is_done(cell: Cell) -> bool:
    """Whether all steps of a cell are done, and have the metrics that are shown."""
    record = valid_record(cell)
    return all(
        record.get(step.name, {}).get('done')
        and not _missing_metrics(step, record[step.name])
        for step in cell.steps
    )


class CellRunner:
    """Runs what is missing of cells, each in processes of its own.

    Args:
        cells (Sequence[Cell]): The cells.
        jobs (int): How many run side by side. They share the GPUs in turn, and the
            cores in equal parts.
        lock (int): File that stays open as long as any process of this comparison
            lives, see :func:`exclusive`.
    """

    def __init__(self, cells: Sequence[Cell], jobs: int, lock: int) -> None:
        self.cells = cells
        self.jobs = jobs
        self.lock = lock
        self._free_slots = list(range(jobs))
        self._processes: set[subprocess.Popen] = set()

    def run(self, finished: Callable[[Cell, str | None], None]) -> dict[str, str]:
        """Run the cells. One that fails does not stop the others.

        Args:
            finished (Callable): Called after each cell with it and its error, if any.

        Returns:
            dict[str, str]: The errors of the cells that failed, by their names.
        """
        failed = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._run_cell, cell): cell for cell in self.cells}
            try:
                for future in as_completed(futures):
                    cell, error = futures[future], future.exception()
                    text = None if error is None else _told(error)
                    if text is not None:
                        failed[cell.name] = text
                    finished(cell, text)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._processes):
                    process.terminate()
                raise
        return failed

    def _run_cell(self, cell: Cell) -> None:
        slot = self._free_slots.pop()
        errors = []
        try:
            record = read_record(cell)
            for step in cell.steps:
                try:
                    self._run_missing(cell, step, record, slot)
                except CommandFailed as error:
                    errors.append(str(error))
                    if not step.metrics:
                        break  # the tasks need what was to be trained
        finally:
            self._free_slots.append(slot)
        if errors:
            raise CommandFailed('; '.join(errors))

    def _run_missing(
        self, cell: Cell, step: Step, record: dict[str, dict[str, Any]], slot: int
    ) -> None:
        if not record.get(step.name, {}).get('done'):
            # Before it runs, so that nobody goes on with other settings.
            record[step.name] = dict(config_hash=step.config_hash, done=False)
            _write_record(cell, record)
            record[step.name] = self._run_step(cell, step, slot)
            _write_record(cell, record)
        missing = _missing_metrics(step, record[step.name])
        if missing:
            known = sorted(record[step.name]['metrics'])
            raise CommandFailed(
                f'{step.name} gives no number {" and no ".join(missing)}; it has '
                f'{", ".join(known)}: correct metrics of the task, nothing is run again'
            )

    def _run_step(self, cell: Cell, step: Step, slot: int) -> dict[str, Any]:
        start = time.time()
        log = cell.folder / f'{step.name}.log'
        commands = []
        if step.run_config is not None:
            _write_config(step.run_config)
        if step.results is not None:
            step.results.unlink(missing_ok=True)
        with log.open('a') as output:
            for command in step.resolved_commands():
                commands.append(shlex.join(command))
                output.write(f'$ {commands[-1]}\n')
                output.flush()
                if self._run_process(command, output, slot):
                    raise CommandFailed(
                        f'{step.name} failed: {_last_line(log)} (all of it in {log})'
                    )
        entry: dict[str, Any] = dict(
            config_hash=step.config_hash,
            done=True,
            commands=commands,
            seconds=round(time.time() - start, 1),
        )
        if step.run_config is not None:
            entry['config'] = step.run_config.origin
        if step.timed is not None:
            entry['seconds_per_iteration'] = _seconds_per_iteration(step.timed)
        if step.results is not None:
            results = json.loads(step.results.read_text())
            entry['metrics'] = results.get('metrics', results)
        return entry

    def _run_process(self, command: list[str], output: IO[str], slot: int) -> int:
        environment = dict(os.environ)
        if self.jobs > 1:
            threads = max(1, (os.cpu_count() or 1) // self.jobs)
            environment.setdefault('OMP_NUM_THREADS', str(threads))
            if torch.cuda.is_available():
                device = slot % torch.cuda.device_count()
                environment['CUDA_VISIBLE_DEVICES'] = str(device)
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=(self.lock,),
        )
        self._processes.add(process)
        try:
            return process.wait()
        finally:
            self._processes.discard(process)


@contextmanager
def exclusive(folder: Path) -> Iterator[int]:
    """Hold a folder for one comparison and the processes that it starts.

    Those inherit the open file, so the folder stays held if the comparison is killed
    and they live on.

    Args:
        folder (Path): Made if it does not exist.

    Yields:
        int: Descriptor of the open file, to be passed on.

    Raises:
        SpecError: If another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpecError(
                f'{folder} is in use by another comparison, or by a run of one that '
                'was killed; wait for it or end it'
            ) from error
        yield file.fileno()


def _told(error: BaseException) -> str:
    """What ended a cell, in one line."""
    text = ' '.join(str(error).split())
    return (
        text if isinstance(error, CommandFailed) else f'{type(error).__name__}: {text}'
    )


def _missing_metrics(step: Step, entry: Mapping[str, Any]) -> list[str]:
    """Metrics that are shown of a step but are no numbers in its results."""
    found = entry.get('metrics', {})
    return [name for name in step.metrics if not isinstance(found.get(name), _NUMBER)]


def _write_config(run: RunConfig) -> None:
    """Write the config of a training, and see that it can be read as it is.

    Raises:
        CommandFailed: If it holds what a file cannot.
    """
    write_bytes(run.file, f'# {run.origin}\n{run.config.pretty_text}'.encode())
    try:
        same = load_config(str(run.file)).to_dict() == run.config.to_dict()
    except Exception as error:  # a config is a program
        raise CommandFailed(f'{run.file} cannot be read: {error}') from error
    if not same:
        raise CommandFailed(
            f'{run.origin.partition(" ")[0]} holds values that a file cannot keep; '
            f'compare it with {run.file}'
        )


def _write_record(cell: Cell, record: dict[str, dict[str, Any]]) -> None:
    cell.folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + '\n'
    write_bytes(cell.folder / RECORD, text.encode())


def _last_line(log: Path) -> str:
    lines = log.read_text(errors='replace').strip().splitlines()
    return lines[-1] if lines else 'no output'


def _seconds_per_iteration(work_dir: Path) -> float | None:
    """Mean time of an iteration, over all parts of a run that was interrupted."""
    times = [
        json.loads(line).get('time')
        for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]
    known = [t for t in times if t is not None]
    return round(sum(known) / len(known), 4) if known else None
