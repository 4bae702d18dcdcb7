# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The first convolution of a backbone, for other bands than it was trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

#: Which band of the file each band of the module takes, counted from 1; None takes
#: the mean of all, 0 nothing. Or a rule that names them.
Stem = str | Sequence[int | None]

STEM_RULES = ('repeat', 'mean', 'first')


def stem_bands(stem: Stem, file_bands: int, module_bands: int) -> list[int | None]:
    """The band of the file that each band of a module takes, by rule or as given.

    Args:
        stem: ``'repeat'`` counts through the file's bands again and again, ``'mean'``
            takes the mean of all everywhere, ``'first'`` leaves the first bands as
            they are and starts the others at zero. Or the bands themselves.
        file_bands: Number of bands of the file.
        module_bands: Number of bands of the module.

    Raises:
        ValueError: If the rule is unknown, or the bands are not one for each of the
            module's or not in the file.
    """
    places = range(module_bands)
    if stem == 'repeat':
        return [place % file_bands + 1 for place in places]
    if stem == 'mean':
        return [None for _ in places]
    if stem == 'first':
        return [place + 1 if place < file_bands else 0 for place in places]
    if isinstance(stem, str):
        raise ValueError(
            f'stem must be one of {", ".join(map(repr, STEM_RULES))}, or name a band '
            f'of the file for each band of the module, got {stem!r}'
        )
    bands = list(stem)
    if len(bands) != module_bands:
        raise ValueError(
            f'stem names {len(bands)} bands, but the module takes {module_bands}; name '
            'for each of these a band of the file, None for the mean of all or 0 for '
            'none'
        )
    wrong = [
        band
        for band in bands
        # True and False are no numbers of bands, though Python counts them as 1 and 0.
        if band is not None
        and (isinstance(band, bool) or band not in range(file_bands + 1))
    ]
    if wrong or not any(band is None or band for band in bands):
        raise ValueError(
            f'stem={bands}: the bands of the file are 1 to {file_bands}, None stands '
            'for their mean, 0 for none of them, which must not be all'
        )
    return bands


def spread_stem(weight: Tensor, bands: Sequence[int | None]) -> Tensor:
    """Spread the first kernel of a network over other bands.

    The weight of each band of the file is divided among the bands that take it, and
    that of a band which none takes among all that take something. So the weights of
    a kernel keep their sum at every pixel: the response to an image whose bands are
    all equal stays what it was.

    Args:
        weight: (O, I, h, w).
        bands: For each new band one of the I, see :data:`Stem`.

    Returns:
        (O, len(bands), h, w).
    """
    count = weight.shape[1]
    shares = torch.zeros(len(bands), count, dtype=torch.float64)  # new, old
    for place, band in enumerate(bands):
        if band is None:
            shares[place] = 1 / count
        elif band:
            shares[place, band - 1] = 1
    takes_any = shares.any(1)
    shares[:, ~shares.any(0)] = takes_any[:, None].double()
    shares /= shares.sum(0)
    spread = torch.einsum('ni,oihw->onhw', shares, weight.double())
    return spread.to(weight.dtype).contiguous()
