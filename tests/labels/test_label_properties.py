# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""What holds of all label files that can be written."""

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cmid_mm.labels.dota import DOTA_CLASSES, MIN_SIDE, format_boxes, parse_boxes
from cmid_mm.labels.errors import LabelError
from cmid_mm.labels.layers import LabelLayer
from cmid_mm.labels.masks import IGNORED, read_index_mask
from tests.labels import generated

pytestmark = pytest.mark.properties
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('labels')


@given(
    st.lists(
        st.tuples(
            st.floats(-100, 3000),
            st.floats(-100, 3000),
            st.floats(1, 500),
            st.floats(1, 500),
            st.floats(-4, 4),
            st.sampled_from(DOTA_CLASSES),
            st.integers(0, 2),
        ),
        max_size=6,
    )
)
def test_boxes_are_read_as_they_were_written(boxes):
    corners = np.zeros((len(boxes), 8))
    for row, (x, y, width, height, angle, *_) in zip(corners, boxes, strict=True):
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        rectangle = np.array([[0, 0], [width, 0], [width, height], [0, height]])
        row[:] = (rectangle @ turn.T + (x, y)).ravel()
    classes, difficulties = [b[5] for b in boxes], [b[6] for b in boxes]
    content = format_boxes(corners, classes, difficulties, None, {'gsd': 0.3})
    found = parse_boxes(content, 'written.txt')
    assert np.array_equal(found.corners, corners)
    assert list(found.classes) == classes
    assert list(found.difficulties) == difficulties and found.flat == 0
    # What is read and written again stays what it is.
    assert format_boxes(found.corners, found.classes, found.difficulties, None) == (
        format_boxes(corners, classes, difficulties, None)
    )


@given(st.binary(max_size=80))
def test_what_is_no_label_file_is_refused_by_its_name(content):
    """Any bytes: boxes of known classes with an area, or one kind of error."""
    try:
        found = parse_boxes(content, 'some.txt')
    except LabelError as error:
        assert 'some.txt' in str(error)
    else:
        assert set(found.classes) <= set(DOTA_CLASSES)
        assert np.isfinite(found.corners).all()


@given(
    st.text('0123456789.- x\t', max_size=8),
    st.lists(st.floats(), min_size=8, max_size=8),
)
def test_a_line_is_a_box_or_refused(rest, corners):
    line = ' '.join(map(repr, corners)) + f' ship {rest}'
    try:
        found = parse_boxes(line.encode(), 'some.txt')
    except LabelError as error:
        assert 'some.txt, line' in str(error)
    else:
        assert np.isfinite(found.corners).all()
        for box in found.corners:
            points = (box.reshape(4, 2) - box[:2]).astype(np.float32)
            assert min(cv2.minAreaRect(points)[1]) >= MIN_SIDE


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 6),
    SEEDS,
    st.sampled_from(['uint8', 'int16', 'float32']),
    st.sampled_from([None, 9, 255]),
)
def test_masks_keep_their_classes(folder, height, width, classes, seed, dtype, nodata):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, classes, (height, width)).astype(dtype)
    missing = rng.random(values.shape) < 0.2
    values[missing] = 255 if nodata is None else nodata
    # 0 and 255 alone, of few classes, may mean several things: refused elsewhere.
    assume(classes > 2 or nodata == 9)
    path = generated.write_raster(folder / 'mask.tif', values, nodata=nodata)
    mask = read_index_mask(path, num_classes=classes)
    assert mask.dtype == np.uint8
    assert (mask == np.where(missing, IGNORED, values)).all()
    turned = read_index_mask(
        path,
        num_classes=classes,
        label_map={i: classes - 1 - i for i in range(classes)},
    )
    assert (turned == np.where(missing, IGNORED, classes - 1 - values)).all()


@settings(max_examples=settings().max_examples // 5)
@given(SEEDS, st.data())
def test_windows_of_outlines_are_parts_of_the_whole(folder, seed, data):
    """Of a vector layer, as of a raster: a window knows what the whole image knows."""
    shapes = generated.blobs(seed, 5)
    kinds = [f'class{i % 3}' for i in range(5)]
    path = folder / 'outlines.gpkg'
    path.unlink(missing_ok=True)
    generated.write_vectors(path, shapes, kind=kinds)
    top = data.draw(st.integers(0, generated.HEIGHT - 1))
    left = data.draw(st.integers(0, generated.WIDTH - 1))
    rows = data.draw(st.integers(1, generated.HEIGHT - top))
    columns = data.draw(st.integers(1, generated.WIDTH - left))
    labels = LabelLayer(path, field='kind')
    with generated.scene(folder) as image:
        whole = labels.window(image, generated.WHOLE)
        part = labels.window(image, (top, left, rows, columns))
    assert (part == whole[top : top + rows, left : left + columns]).all()
