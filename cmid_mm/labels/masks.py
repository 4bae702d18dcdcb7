# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Masks: a class, or change, for each pixel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..images import ImageFile, Pixels
from ..images.notices import say_once
from ..images.photographs import JPEG_EXTENSIONS
from .errors import LabelError

#: Label of pixels that neither losses nor metrics count.
IGNORED = 255

#: Stands for NaN among whole numbers; no file of labels holds it.
_NO_NUMBER = -(1 << 31)

_Values = NDArray[np.integer[Any]]
_Missing = NDArray[np.bool_]


def read_change_mask(
    path: str | Path, changed_from: int | None = None
) -> NDArray[np.uint8]:
    """Read a mask of changes.

    JPEG compression blurs masks, so that in a JPEG 128 and above is change. In other
    files 0 and 1, or 0 and 255 (128 and above, if edges were smoothed) are expected;
    a mask that is 0 everywhere has no change. Pixels that the file marks as missing
    (no-data tag, NaN, a mask in or beside the file) are :data:`IGNORED`. But a tag of 0
    marks nothing: programs that turn outlines of changes into rasters give it to the
    unchanged rest. Nor does transparency, which is how a mask looks.

    Args:
        path: Image of one band, or with equal bands.
        changed_from: Lowest value that means change, whatever the file looks like.
            Defaults to None, as said above.

    Returns:
        (H, W), 0 unchanged, 1 changed, 255 ignored.

    Raises:
        UnreadableImageError: If the file is missing or broken.
        LabelError: If it is a colour image, or its values could mean several things.
    """
    is_jpeg = str(path).lower().endswith(JPEG_EXTENSIONS)
    values, missing, tag = _single_band(path, is_jpeg)
    if tag == 0:
        missing &= values != 0
    elif tag == IGNORED and (missing & (values == IGNORED)).any():
        say_once(
            'change masks with no-data 255',
            f'{path}: its no-data value is 255, so pixels of 255 are ignored. If they '
            'are changed, remove the tag (gdal_edit.py -unsetnodata)',
        )
    if changed_from is None:
        changed_from = 128 if is_jpeg else _changed_from(path, values[~missing])
    mask = (values >= changed_from).astype(np.uint8)
    mask[missing] = IGNORED
    return mask


def _changed_from(path: str | Path, values: _Values) -> int:
    found = np.unique(values)
    if not len(found) or (found[0] >= 0 and found[-1] <= 1):
        return 1
    # 0, 1 and 255 alone are indexes and an ignored rest, not smooth edges.
    if 128 <= found[-1] <= 255 and found.tolist() != [0, 1, 255] and found[0] >= 0:
        return 128
    raise LabelError(
        f'mask {path} has the values {_list(found)}, but masks have 0 and 255, or 0 '
        'and 1. If it is the right file, say from which value on pixels are changed: '
        'changed_from=... in LoadChangeMask'
    )


def read_index_mask(
    path: str | Path,
    num_classes: int | None = None,
    declared: Mapping[int, int] | None = None,
    reduce_zero_label: bool = False,
    label_map: Mapping[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Read a mask of class indexes.

    The indexes are the values as they are stored, those of a palette included. Pixels
    that the file marks as missing (no-data tag, NaN, a mask in or beside the file; not
    transparency), and those of value 255, are :data:`IGNORED`, unless ``declared``
    names 255 or the value of the tag.

    Args:
        path: Image of one band, or with equal bands.
        num_classes: Number of classes; other values are refused. Defaults to None: any
            up to 254 are taken.
        declared: What values of the file mean: class (or 255 for ignored) by value.
            Values that it does not name stay.
        reduce_zero_label: Whether 0 is to be ignored and the others counted from 1,
            as in mmseg. Happens after ``declared``.
        label_map: Class by index, as mmseg's data sets have it. Happens last.

    Returns:
        (H, W), the class of each pixel, or 255.

    Raises:
        UnreadableImageError: If the file is missing or broken.
        LabelError: If it is a colour image, has values that are no classes, or could
            mean several things.
    """
    values, missing, tag = _single_band(path)
    return to_classes(
        path,
        values,
        missing,
        tag,
        num_classes,
        declared or {},
        reduce_zero_label=reduce_zero_label,
        label_map=label_map,
    )


def to_classes(
    path: str | Path,
    values: _Values,
    missing: _Missing,
    tag: float | None,
    num_classes: int | None,
    declared: Mapping[int, int],
    complete: bool = False,
    reduce_zero_label: bool = False,
    label_map: Mapping[int, int] | None = None,
    where: str = 'in LoadIndexMask',
) -> NDArray[np.uint8]:
    """Turn stored values into classes as :func:`read_index_mask` does.

    Args:
        path: The file, for messages.
        values: Whole numbers, (H, W).
        missing: Where the file marks them as missing, by its no-data tag or otherwise.
        tag: The no-data tag.
        num_classes: As there.
        declared: As there.
        complete: Whether a value that ``declared`` does not name is refused.
        reduce_zero_label: As there.
        label_map: As there.
        where: Where users say what values mean, for messages.

    Returns:
        (H, W), the class of each pixel, or 255.

    Raises:
        LabelError: If a value is no class, or could mean several things.
    """
    if tag in declared:
        missing = missing & (values != tag)
    found = _unique(values[~missing])
    is_class = tag is not None and 0 <= tag < (num_classes or 0)
    if is_class and tag not in declared and not reduce_zero_label:
        say_once(
            'index masks with a class as no-data',
            f'{path}: its no-data value is {tag:g}, so pixels of {tag:g} are ignored. '
            f'If they are a class, say so: label_map={{{tag:g}: {tag:g}}} {where}',
        )
    _check_unambiguous(path, found, num_classes, declared, where)
    classes = {}
    for value in found:
        index = declared.get(value, -1 if complete and value != IGNORED else value)
        if reduce_zero_label and index != IGNORED:
            index = index - 1 if index else IGNORED
        if label_map is not None and index != IGNORED:
            index = label_map.get(index, index)
        classes[value] = index
    limit = IGNORED if num_classes is None else num_classes
    wrong = [v for v, i in classes.items() if not (0 <= i < limit or i == IGNORED)]
    if wrong:
        raise LabelError(
            f'mask {path} has the values {_list(found)}, of which {_list(wrong)} '
            + (
                'are beyond 254'
                if num_classes is None
                else f'are none of the {num_classes} classes '
                + (
                    f'(values {_list(sorted(declared))})'
                    if complete
                    else f'(0 to {num_classes - 1}, 255 ignored)'
                )
            )
            + '. If it is the right file, say what they mean: '
            f'label_map={{{wrong[0]}: CLASS, ...}} {where}'
        )
    mask = np.full(values.shape, IGNORED, np.uint8)
    for value, index in classes.items():
        mask[values == value] = index
    mask[missing] = IGNORED
    return mask


def _check_unambiguous(
    path: str | Path,
    found: list[int],
    num_classes: int | None,
    declared: Mapping[int, int],
    where: str,
) -> None:
    """Refuse 0 and 255 for two classes: a black and white picture, or class 0 alone."""
    if (
        num_classes in (1, 2)
        and IGNORED in found
        and IGNORED not in declared
        and set(found) <= {0, IGNORED}
    ):
        raise LabelError(
            f'mask {path} has the values {_list(found)} for {num_classes} classes, '
            'which are 0 and 1: 255 could be a class or the ignored rest. Say which: '
            f'label_map={{255: 1}} or label_map={{255: 255}} {where}'
        )


def check_size(
    path: str | Path, mask: NDArray[Any], image: str | Path, shape: Sequence[int]
) -> None:
    """Refuse a mask that has not the size of its image.

    Args:
        path: File of the mask.
        mask: The mask, (H, W).
        image: File of the image.
        shape: Height and width of the image in pixels.

    Raises:
        LabelError: If they differ; names both.
    """
    if mask.shape != tuple(shape[:2]):
        raise LabelError(
            f'mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels, but {image} is '
            f'{shape[1]} x {shape[0]}; both must be of one size'
        )


def _single_band(
    path: str | Path, is_jpeg: bool = False
) -> tuple[_Values, _Missing, float | None]:
    """Whole numbers as stored, (H, W); which are marked as missing; the no-data tag."""
    with ImageFile(path) as image:
        stored, header = image.read_indices(), image.header
    if header.alpha is not None:
        stored = Pixels(stored.values)  # transparency is how a mask looks
    values, missing = single_band(path, stored, is_jpeg)
    return values, missing, header.nodata


def single_band(
    path: str | Path, stored: Pixels, is_jpeg: bool = False
) -> tuple[_Values, _Missing]:
    """The labels among the bands of a file.

    Args:
        path: The file, for messages.
        stored: What was read of it.
        is_jpeg: Whether its bands may differ by compression.

    Returns:
        Whole numbers as stored, (H, W); which are marked as missing, (H, W).

    Raises:
        LabelError: If bands differ, or values are no whole numbers.
    """
    bands = stored.values
    missing: _Missing = np.zeros(bands.shape[:2], bool)
    if stored.valid is not None:
        missing |= ~stored.valid.all(axis=2)
    equal = is_jpeg or bands.shape[2] == 1
    if not equal and (bands != bands[..., :1])[~missing].any():
        raise LabelError(
            f'mask {path} is a colour image of {bands.shape[2]} bands; expected one '
            'band whose values are the labels, or a palette. Convert its colours to '
            'indexes'
        )
    values = bands[..., 0]
    if values.dtype.kind == 'f':
        number = np.isfinite(values)
        missing = missing | ~number
        values = np.where(number, values, _NO_NUMBER)
        if (values != np.rint(values)).any():
            fraction = values[values != np.rint(values)][0]
            raise LabelError(
                f'mask {path} has the value {fraction}; expected whole numbers. Is it '
                'the right file, not resampled?'
            )
        values = values.astype(np.int64)
    return values, missing


def _unique(values: _Values) -> list[int]:
    if values.size and 0 <= values.min() and values.max() < 1 << 16:
        return np.flatnonzero(np.bincount(values)).tolist()  # far faster than sorting
    return np.unique(values).tolist()


def _list(values: _Values | list[int]) -> str:
    shown = ', '.join(map(str, values[:8]))
    more = f', ... (highest {max(values)})' if len(values) > 8 else ''
    return shown + more
