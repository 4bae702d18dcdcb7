# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import numpy as np
import rasterio

from cmid_mm.embeddings.index import Block
from cmid_mm.embeddings.labelling import Classified, ClassMap
from tests.inference.tiny_segmentation import write_raster


def test_map_of_overlapping_windows(tmp_path):
    """Borders lie in the middle of what windows share; gaps stay without data."""
    path = write_raster(tmp_path / 'a.tif', 40, 100)
    windows = np.array([(0, 0, 40, 40), (0, 30, 40, 40), (0, 80, 40, 20)])
    block = Block(0, np.zeros((3, 1)), windows, np.ones(3), str(path))
    drawn = ClassMap(str(path), ['x', 'y'])
    drawn.add(Classified(block, np.array([0, 1, 0]), np.ones(3)))
    drawn.write(tmp_path / 'map.tif')
    with rasterio.open(tmp_path / 'map.tif') as source:
        values = source.read(1)
    expected = np.repeat([0, 1, 255, 0], [35, 35, 10, 20])
    assert (values == expected).all()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name[0] == '.') == []
