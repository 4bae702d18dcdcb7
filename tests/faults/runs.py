# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Tiny trainings in processes of their own, which faults can be done to.

They are forked from the process of the tests, which has imported everything.
"""

import atexit
import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS

from cmid_mm.engine import launch
from cmid_mm.engine.fault_tolerant_runner import FaultTolerantRunner
from cmid_mm.engine.layout import keep_step_size
from tests.end_to_end.pretraining import toy_run


@HOOKS.register_module()
class Tell(Hook):
    """Tells the tests where a run is, takes its time, and fails if it is told to."""

    priority = 'VERY_LOW'

    def __init__(self, seconds: float = 0, raises_in: tuple = ()) -> None:
        self.seconds, self.raises_in = seconds, raises_in

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.rank, runner.iter) == tuple(self.raises_in):
            raise MemoryError('caused by the test')
        print('begun', runner.iter, flush=True)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(self.seconds)
        print('finished', runner.iter + 1, flush=True)


@TRANSFORMS.register_module()
class TellImage(BaseTransform):
    """Tells the tests which image is loaded; one of them takes for ever."""

    def __init__(self, hangs_at: int | None = None) -> None:
        self.left = hangs_at

    def transform(self, results):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                print('hangs', flush=True)
                time.sleep(600)
        print('image', Path(results['img_path']).stem, flush=True)
        return results


def train(work_dir: Path, images: str, tell: dict[str, Any], changes: dict) -> None:
    """Train, from the latest checkpoint if there is one."""
    cfg = toy_run(Path(images), work_dir, **changes)
    cfg.default_hooks.checkpoint.update(by_epoch=True, interval=1, max_keep_ckpts=2)
    cfg.default_hooks.preemption = dict(type='PreemptionHook')
    tell_image = dict(type='TellImage', hangs_at=tell.pop('hangs_at', None))
    cfg.custom_hooks.append(dict(type='Tell', **tell))
    cfg.experiment_name = f'faults-{os.getpid()}'
    if int(os.environ['WORLD_SIZE']) > 1:
        launch.set_launcher(cfg, 'pytorch')
    cfg.train_dataloader.dataset.pipeline.insert(0, tell_image)
    launch.set_resume(cfg, 'auto')
    keep_step_size(cfg)
    FaultTolerantRunner.from_cfg(cfg).train()


class Processes:
    """The processes of one run.

    Args:
        work_dir: Its folder; ``output_0.txt``, ... there hold what they say.
        images: Folder of the images.
        count: How many there are.
        tell: Settings of :class:`Tell`, and ``hangs_at`` of :class:`TellImage`.
        changes: Settings of the config.
    """

    def __init__(
        self,
        work_dir: Path,
        images: str,
        count: int = 1,
        tell: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        self.work_dir = work_dir
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        self.processes = []
        for rank in range(count):
            variables = dict(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(count),
                MASTER_ADDR='127.0.0.1',
                MASTER_PORT=str(port),
            )
            output = work_dir / f'output_{rank}.txt'
            output.write_text('')
            process = multiprocessing.get_context('fork').Process(
                target=_run,
                args=(output, variables, work_dir, images, tell or {}, changes),
            )
            process.start()
            self.processes.append(process)

    def send(self, number: signal.Signals, *ranks: int) -> None:
        """Send a signal to some of them."""
        for rank in ranks:
            os.kill(self.processes[rank].pid or 0, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to a process and to all that it has started."""
        os.killpg(self.processes[0].pid or 0, number)

    def output(self, rank: int = 0) -> str:
        """What one of them has said."""
        return (self.work_dir / f'output_{rank}.txt').read_text()

    def outputs(self) -> str:
        """What all of them have said."""
        return ''.join(self.output(rank) for rank in range(len(self.processes)))

    def images(self, iterations: range, rank: int) -> list[str]:
        """Images of some iterations of a process."""
        loaded: dict[int, list[str]] = {}
        images: list[str] = []
        for word, _, value in (
            line.partition(' ') for line in self.output(rank).splitlines()
        ):
            if word == 'image':
                images.append(value)
            elif word == 'begun':
                loaded[int(value)], images = images, []
        return [image for iteration in iterations for image in loaded[iteration]]

    def wait_until(self, condition: Callable[[], object], seconds: int = 120) -> None:
        """Wait for something while all run."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or not all(p.is_alive() for p in self.processes):
                self.kill()
                raise AssertionError(self.outputs())
            time.sleep(0.05)

    def wait_for_iteration(self, iteration: int, rank: int = 0) -> None:
        """Wait until a process has finished so many."""
        self.wait_until(lambda: f'finished {iteration}\n' in self.output(rank))

    def statuses(self, seconds: int = 120) -> list[int | None]:
        """Statuses with which they end, None of those that are not in time.

        Those say in their output where each of their threads is.
        """
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.1, end - time.monotonic()))
        statuses = [process.exitcode for process in self.processes]
        for process in self.processes:
            if process.exitcode is None:
                os.kill(process.pid or 0, signal.SIGQUIT)
                process.join(2)
        self.kill()
        return statuses

    def kill(self) -> None:
        """End what still runs."""
        for process in self.processes:
            process.kill()
            process.join()


def _run(output: Path, variables: dict[str, str], *args: Any) -> None:
    """Train as a process does that was started for it alone."""
    with open(output, 'w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = open(1, 'w'), open(2, 'w')
    os.setsid()
    faulthandler.register(signal.SIGQUIT, file=sys.stderr)
    os.environ.update(variables)
    atexit._clear()
    status: Any = 0
    try:
        train(*args)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
