# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What a process takes that loads windows of many scenes."""

import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

from cmid_mm.images import Reading, load_image

from .miniatures import write_raster

SCENES, WINDOWS = 10_000, 100_000


def resident_megabytes():
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def open_files():
    return len(os.listdir('/proc/self/fd'))


@pytest.mark.slow
def test_windows_of_many_scenes(tmp_path):
    """The first thousand scenes take what ten thousand do, or all but.

    About a minute of an idle processor.
    """
    values = np.random.default_rng(0).integers(1, 255, (256, 256, 3), np.uint8)
    transform = from_origin(5e5, 3e6, 1, 1)
    options = dict(tiled=True, blockxsize=64, blockysize=64, nodata=0)
    first = write_raster(tmp_path / '0.tif', values, transform=transform, **options)
    for number in range(1, SCENES):
        os.link(first, tmp_path / f'{number}.tif')
    generator = random.Random(0)
    readings, before = (Reading(), Reading(gsd=1.5)), open_files()
    taken = []
    for number in range(WINDOWS // 10):
        path = tmp_path / f'{generator.randrange(SCENES)}.tif'
        for _ in range(10):
            corner = generator.randrange(130), generator.randrange(130)
            load_image(path, readings[number % 2], (*corner, 32, 32))
        if number % (SCENES // 10) == SCENES // 10 - 1:
            taken.append(resident_megabytes())
            assert open_files() <= before + 33
    assert max(taken) - taken[0] < 16
