# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The windows of an index that are most similar to some examples."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import Window
from .index import Entry, Index, UnusableIndexError

#: How several examples ask together.
COMBINATIONS = ('mean', 'max')
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """A window that was found.

    Attributes:
        rank: From 1.
        similarity: Cosine of the angle to the query, -1 to 1.
        entry: The window.
    """

    rank: int
    similarity: float
    entry: Entry


@dataclass(frozen=True)
class Shown:
    """What a query shows, which need not be found again.

    Attributes:
        file: An image.
        window: The part of it; None for all.
    """

    file: str
    window: Window | None = None


def nearest(
    index: Index,
    examples: Vectors,
    count: int,
    combine: str = 'mean',
    without: Sequence[Shown] = (),
    library: str = 'exact',
    centre: bool = True,
) -> list[Hit]:
    """Search an index.

    Args:
        index: The index.
        examples: Vectors of what is sought, (Q, D).
        count: Windows to find; fewer if there are no more.
        combine: ``'mean'``: similarity to the mean of the examples, each of length 1;
            ``'max'``: to the example that is nearest to a window.
        without: Windows that share a pixel with these are left out.
        library: ``'exact'`` compares with every window, of which memory holds a block
            at a time. ``'faiss'`` gives the same from vectors that are all in memory,
            with all cores.
        centre: Whether similarity is that of the differences from the mean of the
            index, all vectors having length 1 before. What all windows share, which is
            most of a feature vector, says nothing of any. Defaults to True.

    Returns:
        Windows, the most similar one first; of equal ones the first in the index.

    Raises:
        UnusableIndexError: If the vectors are not as long as the examples.
        ValueError: If there is no example, or an option is unknown.
        ImportError: If faiss is missing.
    """
    if combine not in COMBINATIONS:
        raise ValueError(f'combine {combine!r} is none of {", ".join(COMBINATIONS)}')
    if not len(examples) or count < 1:
        raise ValueError(
            f'{len(examples)} examples and {count} windows to find; give at least one'
        )
    if examples.shape[1] != index.width:
        raise UnusableIndexError(
            f'{index.folder} has vectors of {index.width} numbers, the query has '
            f'{examples.shape[1]}; give the config and checkpoint of the index'
        )
    # One window has no difference from the mean.
    space = _Space(_mean(index) if centre and len(index) > 1 else None)
    queries = space.of(examples)
    if combine == 'mean':
        queries = unit(queries.mean(0, keepdims=True))
    find = {'exact': _exact, 'faiss': _by_faiss}.get(library)
    if find is None:
        raise ValueError(f'library {library!r} is none of exact, faiss')
    numbers, similarities = find(index, queries, count, without, space)
    entries = index.entries(numbers.tolist())
    return [
        Hit(rank, float(similarity), entry)
        for rank, (similarity, entry) in enumerate(
            zip(similarities, entries, strict=True), 1
        )
    ]


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


class _Space:
    """Where vectors are compared: around the mean of an index, or around 0."""

    def __init__(self, mean: Vectors | None) -> None:
        self._mean = mean

    def of(self, vectors: Vectors) -> Vectors:
        """Vectors of length 1."""
        vectors = unit(vectors)
        return vectors if self._mean is None else unit(vectors - self._mean)


def _mean(index: Index) -> Vectors:
    total = np.zeros(index.width)
    for block in index.blocks():
        total += unit(block.vectors).sum(0, dtype=np.float64)
    return (total / max(len(index), 1)).astype(np.float32)


def _exact(
    index: Index,
    queries: Vectors,
    count: int,
    without: Sequence[Shown],
    space: '_Space',
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    numbers: NDArray[np.int64] = np.empty(0, np.int64)
    best: NDArray[np.float32] = np.empty(0, np.float32)
    for block in index.blocks():
        similarity = (space.of(block.vectors) @ queries.T).max(1)
        kept = np.ones(len(similarity), bool)
        for shown in without:
            kept &= ~block.overlapping(shown.file, shown.window)
        found = block.first + np.flatnonzero(kept)
        numbers = np.concatenate([numbers, found])
        best = np.concatenate([best, similarity[kept]])
        # Stable: of equal ones the first stays first.
        order = np.argsort(-best, kind='stable')[:count]
        numbers, best = numbers[order], best[order]
    return numbers, best


def _by_faiss(
    index: Index,
    queries: Vectors,
    count: int,
    without: Sequence[Shown],
    space: '_Space',
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    faiss = faiss_library()
    flat = faiss.IndexFlatIP(index.width)
    left_out: list[int] = []
    for block in index.blocks():
        flat.add(space.of(block.vectors))
        for shown in without:
            rows = np.flatnonzero(block.overlapping(shown.file, shown.window))
            left_out += (block.first + rows).tolist()
    wanted = min(count + len(set(left_out)), len(index))
    found = flat.search(queries, wanted)
    best: dict[int, float] = {}
    for similarity, number in zip(*map(np.ravel, found), strict=True):
        if number not in left_out:
            best[int(number)] = max(float(similarity), best.get(int(number), -2.0))
    order = sorted(best, key=lambda number: (-best[number], number))[:count]
    similarities = np.array([best[number] for number in order], np.float32)
    return np.array(order, np.int64), similarities


def faiss_library() -> Any:
    """The package that searches many vectors by all cores.

    Raises:
        ImportError: If it is missing; says what to install.
    """
    try:
        return importlib.import_module('faiss')
    except ImportError as error:
        raise ImportError(
            f'searching by faiss needs it: pip install faiss-cpu ({error}); the exact '
            'search needs no package and finds the same'
        ) from error
