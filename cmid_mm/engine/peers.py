# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What the processes of a run tell each other beside their collectives.

A collective waits for all processes and cannot be left. A process that waits for one
that has died, or that is about to be stopped, is told so here, by a thread.
"""

import atexit
import logging
import os
import signal
import sys
import threading
from datetime import timedelta
from typing import Any, NoReturn

from mmengine import dist
from torch.distributed import TCPStore

from cmid_mm_cli.stopping import exit_status, stop_signals

from ..files import this_process

#: Seconds between two looks, and to wait for an answer of all.
_INTERVAL, _ANSWER = 1.0, 10
#: Looks without a sign of life that count as death when something has gone wrong.
_SUSPICIOUS = 5
#: How the process is called that the names of all would be asked of.
_FIRST = 'process 0'


class Peers:
    """Signs of life, requests to stop and the news of a checkpoint.

    Made in all processes at once. The first one keeps a store of keys that the others
    read and write every second:

    - a signal to stop that has reached one process is handed on to all;
    - only the first one saves, for it holds all of the state; the others go on until it
      has, and end then;
    - a process that has ended without :meth:`close`, or gives no sign of life, is named
      in the output of all others, which end with status 1.

    Args:
        patience: Seconds without a sign of life that count as death.
    """

    def __init__(self, patience: int) -> None:
        self.rank, self.size = dist.get_dist_info()
        self.patience = patience
        host = os.environ.get('MASTER_ADDR', '127.0.0.1')
        timeout = timedelta(seconds=patience)
        address: list[Any] = [host, 0]
        if self.rank == 0:
            self._store = TCPStore(
                host, 0, is_master=True, timeout=timeout, wait_for_workers=False
            )
            address[1] = self._store.port
        dist.broadcast_object_list(address)
        if self.rank != 0:
            host, port = address
            self._store = TCPStore(host, port, timeout=timeout)
        self._main = threading.get_ident()
        self._store.set(f'name/{self.rank}', this_process())
        self._beats = 0
        # Of each other process: its last sign of life, and looks since then.
        self._signs = {rank: (b'', 0) for rank in range(1, self.size)}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        atexit.register(self._end_unclosed)

    def close(self) -> None:
        """Take leave when all have come to the end; called in all at once."""
        dist.barrier()
        self._closed.set()
        self._thread.join(_ANSWER)
        atexit.unregister(self._end_unclosed)

    def tell_saved(self) -> bool:
        """Let the others end, since what they have computed is saved.

        Returns:
            Whether all have answered.
        """
        self._closed.set()
        self._thread.join(_ANSWER)
        atexit.unregister(self._end_unclosed)
        self._store.set('saved', '')
        try:
            self._store.wait(
                [f'left/{rank}' for rank in self._signs], timedelta(seconds=_ANSWER)
            )
        except RuntimeError:
            return False
        return True

    def _watch(self) -> None:
        while not self._closed.wait(_INTERVAL):
            try:
                self._look()
            except RuntimeError:
                # The first process may have gone because all have come to the end.
                if not self._closed.wait(2 * _INTERVAL):
                    self._end_after(_FIRST)

    def _look(self) -> None:
        store = self._store
        self._beats += 1
        store.set(f'beat/{self.rank}', str(self._beats))
        if stop_signals.received:
            store.set('stop', str(int(stop_signals.received)))
        elif store.check(['stop']):
            signal.pthread_kill(self._main, int(store.get('stop')))
        if self.rank == 0:
            self._find_dead(self.patience)
        elif store.check(['saved']):
            received = stop_signals.received or signal.SIGTERM
            exit_status(received)
            store.set(f'left/{self.rank}', '')
            _end(0)
        if store.check(['dead']):
            self._end_after(store.get('dead').decode())

    def _find_dead(self, patience: int) -> None:
        """Look for signs of life.

        Looks are counted and not seconds: a run that was suspended as a whole has not
        died.
        """
        for rank, (last, looks) in self._signs.items():
            key = f'beat/{rank}'
            now = self._store.get(key) if self._store.check([key]) else b''
            self._signs[rank] = (now, 0 if now != last else looks + 1)
            if self._signs[rank][1] >= patience / _INTERVAL:
                self._store.set('dead', self._name(rank))

    def _name(self, rank: int) -> str:
        key = f'name/{rank}'
        name = self._store.get(key).decode() if self._store.check([key]) else 'unknown'
        return f'process {rank} ({name})'

    def _say(self, dead: str) -> None:
        sys.stderr.write(f'error: {dead} has ended; process {self.rank} ends with it\n')

    def _end_after(self, dead: str) -> NoReturn:
        self._say(dead)
        _end(1)

    def _end_unclosed(self) -> None:
        """Find out whether the end of another process is behind the end of this one.

        If not, the others learn of this one's.
        """
        self._closed.set()
        self._thread.join(_ANSWER)
        self._closed.clear()
        try:
            for _ in range(_SUSPICIOUS + 3):
                if self.rank == 0:
                    self._find_dead(_SUSPICIOUS)
                if self._store.check(['dead']):
                    self._say(self._store.get('dead').decode())
                    return
                self._closed.wait(_INTERVAL)
            self._store.set('dead', self._name(self.rank))
        except RuntimeError:
            self._say(_FIRST)


def _end(status: int) -> NoReturn:
    """End this process, whatever its main thread waits for."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
