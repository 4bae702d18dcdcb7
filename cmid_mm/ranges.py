# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Types of settings that say which numbers make sense.

A class of this package declares a setting as ``temperature: Positive``; that a config
keeps to it is checked where its parts are built, see :mod:`cmid_mm.building`. The text
is what an error calls the type. No number of a config may be infinite or NaN, except
where it is declared :data:`AnyNumber`.
"""

import logging
from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, AllowInfNan


def _range(low: float, is_open: bool) -> AfterValidator:
    """Two numbers, the lower one first, neither below (or at) a bound."""

    def check(values: Sequence[float]) -> Sequence[float]:
        if len(values) != 2 or values[0] > values[1]:
            raise ValueError
        if values[0] < low or (is_open and values[0] == low):
            raise ValueError
        return values

    return AfterValidator(check)


def _never(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError
    return value


def _on_pixel_scale(values: Sequence[float]) -> Sequence[float]:
    """Refuse statistics of images on the 0-1 scale; zeros leave images as they are."""
    if any(values) and all(abs(value) < 1 for value in values):
        raise ValueError
    return values


def _ascending(values: Sequence[int] | int) -> Sequence[int] | int:
    numbers = [values] if isinstance(values, int) else list(values)
    # Some backbones count from the end, too: those are not compared with the others.
    for part in ([n for n in numbers if n >= 0], [n for n in numbers if n < 0]):
        if part != sorted(set(part)):
            raise ValueError
    return values


def _level(value: int | str) -> int | str:
    # Of a known name it is the number.
    if isinstance(value, str) and isinstance(logging.getLevelName(value), str):
        raise ValueError
    return value


Count = Annotated[int, Ge(1), 'a whole number of at least 1']
CountOrNever = Annotated[
    int,
    AfterValidator(_never),
    'a whole number of at least 1, or -1 for none',
]
Several = Annotated[int, Ge(2), 'a whole number of at least 2']
#: Numbers of stages in the order in which a backbone gives their outputs.
StageNumbers = Annotated[
    Sequence[int] | int,
    AfterValidator(_ascending),
    'numbers of stages, the lowest first, each once',
]
Index = Annotated[int, Ge(0), 'a whole number of at least 0']
Positive = Annotated[float, Gt(0), 'a number above 0']
NonNegative = Annotated[float, Ge(0), 'a number of at least 0']
Share = Annotated[float, Ge(0), Le(1), 'a number in 0-1']
PositiveShare = Annotated[float, Gt(0), Le(1), 'a number above 0, at most 1']
CountRange = Annotated[
    Sequence[int], _range(0, True), 'two whole numbers above 0, the lower one first'
]
PositiveRange = Annotated[
    Sequence[float], _range(0, True), 'two numbers above 0, the lower one first'
]
NonNegativeRange = Annotated[
    Sequence[float], _range(0, False), 'two numbers of at least 0, the lower one first'
]
#: A number that says which values stand for missing ones, NaN perhaps.
AnyNumber = Annotated[float, AllowInfNan(True), 'a number']
Means = Annotated[
    Sequence[float],
    MinLen(1),
    AfterValidator(_on_pixel_scale),
    'numbers, one for each band, of pixels in 0-255 (those of the 0-1 scale times 255)',
]
Deviations = Annotated[
    Sequence[Positive],
    MinLen(1),
    AfterValidator(_on_pixel_scale),
    'numbers above 0, one for each band, of pixels in 0-255 (those of the 0-1 scale '
    'times 255)',
]
#: Of moving averages, how much of the one before stays.
Decays = Annotated[
    Sequence[Annotated[float, Ge(0), Lt(1)]], 'numbers of at least 0, each below 1'
]
LogLevel = Annotated[
    int | str,
    AfterValidator(_level),
    'DEBUG, INFO, WARNING, ERROR, CRITICAL or a number',
]
