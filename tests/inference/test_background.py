# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import threading

import pytest

from cmid_mm.inference.background import in_background


def test_items_in_order_made_by_one_other_thread():
    threads = []

    def numbers():
        for number in range(50):
            threads.append(threading.get_ident())
            yield number

    assert list(in_background(numbers(), 3)) == list(range(50))
    assert len(set(threads)) == 1 and threads[0] != threading.get_ident()


def test_at_most_so_many_wait():
    """While the third is used, the two that may wait and one more are made."""
    made = []
    go_on = threading.Event()

    def numbers():
        for number in range(20):
            made.append(number)
            if number == 6:
                go_on.set()
            yield number

    items = in_background(numbers(), 2)
    for expected in range(4):
        assert next(items) == expected
    assert go_on.wait(5)  # so it does work ahead
    assert len(made) == 7
    assert list(items) == list(range(4, 20))


def test_an_error_comes_after_what_was_made_before_it():
    def numbers():
        yield 1
        raise OSError('a.tif: cannot be read')

    items = in_background(numbers(), 5)
    assert next(items) == 1
    with pytest.raises(OSError, match=r'a\.tif: cannot be read'):
        next(items)


@pytest.mark.parametrize('used', [0, 1, 5])
def test_who_leaves_early_ends_the_thread(used):
    closed = []

    def numbers():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.get_ident())

    before = threading.active_count()
    items = in_background(numbers(), 2)
    for _ in range(used):
        next(items)
    items.close()
    assert threading.active_count() == before
    # Of a thread that never began, nothing is to be closed.
    assert len(closed) == (used > 0)


def test_one_in_the_other():
    inner = in_background(range(10), 1)
    assert list(in_background((2 * x for x in inner), 1)) == [*range(0, 20, 2)]
