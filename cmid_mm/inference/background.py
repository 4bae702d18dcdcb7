# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Work that goes on beside other work: reading, the network, writing."""

from collections.abc import Generator, Iterable
from contextlib import closing
from queue import Empty, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar('Item')


def in_background(items: Iterable[Item], ahead: int) -> Generator[Item, None, None]:
    """Make items in a thread of their own, some ahead of their use.

    All of them are made in the same thread, so what makes them may hold a file open.
    An error in making an item is raised where it would have been used. Who leaves
    early ends the thread; it stops after the item that it is making.

    Args:
        items: What is made; a generator is closed in the thread.
        ahead: Items that may wait; memory holds them, the one that is used and the
            one that is made.

    Yields:
        The items, in their order.
    """
    maker = _Maker(items, ahead)
    maker.start()
    with closing(maker):
        while True:
            item = maker.made.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item


class _End:
    """Comes after the last item, or in place of one that could not be made."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Maker(Thread, Generic[Item]):
    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        super().__init__(daemon=True)
        self._items = items
        self._stopped = Event()
        self.made: Queue[Item | _End] = Queue(ahead)

    def run(self) -> None:
        source = iter(self._items)
        end = _End()
        try:
            for item in source:
                self.made.put(item)
                del item  # else it would stay while the next one is made
                if self._stopped.is_set():
                    break
        except BaseException as error:
            end = _End(error)
        finally:
            close = getattr(source, 'close', None)
            if close is not None:
                close()
        self.made.put(end)

    def close(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        while self.is_alive():
            try:  # it may wait for room
                self.made.get(timeout=0.05)
            except Empty:
                continue
        self.join()
