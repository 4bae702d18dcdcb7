# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Procedural scenes: labels agree with pixels, and with each other, by seed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cmid_mm import demo_scenes
from cmid_mm.demo_scenes import (
    COVER_CLASSES,
    COVER_PALETTE,
    SCENE_CLASSES,
    DemoScene,
    make_change_pair,
    make_scene,
    write_demo_data,
)
from cmid_mm.demo_scenes.light import _shadow
from cmid_mm.demo_scenes.place import Plan, rectangle_corners, split_parcels
from cmid_mm.demo_scenes.writing import _name

VEHICLE, SHIP = COVER_CLASSES.index('vehicle'), COVER_CLASSES.index('ship')
BUILDING = COVER_CLASSES.index('building')


@pytest.fixture(scope='module')
def scenes() -> list[DemoScene]:
    """Four scenes of each class."""
    return [make_scene(11, index, 128) for index in range(32)]


def _all_arrays(scene: DemoScene) -> list[np.ndarray]:
    corners = [box.corners for box in scene.boxes]
    return [scene.image, scene.mask, scene.cover, *corners]


def test_scene_is_a_pure_function_of_its_arguments():
    first = make_scene(3, 6, 96)
    make_scene(3, 5, 64)  # others made in between change nothing
    again = make_scene(3, 6, 96)
    for a, b in zip(_all_arrays(first), _all_arrays(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.dota_text() == again.dota_text()


@pytest.mark.parametrize('other', [(4, 6, 96), (3, 14, 96)])
def test_other_seed_or_index_is_another_scene(other):
    first, second = make_scene(3, 6, 96), make_scene(*other)
    assert second.scene_class == first.scene_class
    # Unrelated noisy pictures agree in few pixels.
    assert (first.image == second.image).all(-1).mean() < 0.05
    assert (first.mask != second.mask).mean() > 0.1


def test_classes_take_turns_and_can_be_chosen(scenes):
    assert [scene.scene_class for scene in scenes] == list(SCENE_CLASSES) * 4
    assert [scene.label for scene in scenes[:8]] == list(range(8))
    assert list(SCENE_CLASSES) == sorted(SCENE_CLASSES)
    assert make_scene(11, 0, 64, 'river').scene_class == 'river'


@pytest.mark.parametrize('size', [64, 100, 257])
def test_shapes_and_types(size):
    scene = make_scene(0, 5, size)
    assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
    assert scene.mask.shape == (size, size) and scene.mask.dtype == np.uint8
    assert scene.cover.shape == (size, size)


def test_cover_classes(scenes):
    seen = np.unique(np.concatenate([scene.mask.ravel() for scene in scenes]))
    np.testing.assert_array_equal(seen, np.arange(len(COVER_CLASSES)))
    assert len(COVER_PALETTE) == len(COVER_CLASSES)
    for scene in scenes:
        movable = np.isin(scene.mask, (VEHICLE, SHIP))
        assert not np.isin(scene.cover, (VEHICLE, SHIP)).any()
        np.testing.assert_array_equal(scene.mask[~movable], scene.cover[~movable])


def test_scene_classes_show_what_their_name_says(scenes):
    def share(name: str, cover: str) -> float:
        value = COVER_CLASSES.index(cover)
        chosen = [scene for scene in scenes if scene.scene_class == name]
        return float(np.mean([(scene.mask == value).mean() for scene in chosen]))

    assert share('forest', 'tree') > 0.6
    assert share('farmland', 'low_vegetation') > 0.6
    assert share('residential', 'building') > 0.05
    assert share('industrial', 'building') > 0.05
    assert share('river', 'water') > 0.1
    assert share('harbour', 'water') > 0.2 and share('harbour', 'ship') > 0.01
    assert share('parking', 'vehicle') > 0.05
    assert share('highway', 'impervious') > 0.2


def test_no_part_of_an_image_is_flat(scenes):
    for scene in scenes:
        grey = scene.image.astype(np.float32).mean(-1)
        blocks = grey.reshape(8, 16, 8, 16).std((1, 3))
        assert blocks.min() > 0.4


def test_boxes_cover_their_pixels(scenes):
    names = {'small-vehicle': VEHICLE, 'large-vehicle': VEHICLE, 'ship': SHIP}
    seen = set()
    for scene in scenes:
        boxed = np.zeros_like(scene.mask)
        for box in scene.boxes:
            seen.add(box.category)
            assert box.corners.min() >= 0 and box.corners.max() <= 128
            value = names[box.category]
            inside = np.zeros_like(scene.mask)
            # Pixel centres lie at half coordinates.
            corners = np.rint((box.corners - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(inside, [corners], 1, shift=4)
            boxed |= inside
            centre = tuple(box.corners.mean(0).astype(int)[::-1])
            assert scene.mask[centre] == value
            if box.difficult:
                continue  # too few pixels for a share
            # fillPoly also takes the rim, which the object covers only in part.
            core = cv2.erode(inside, np.ones((3, 3), np.uint8)).astype(bool)
            assert (scene.mask[core] == value).mean() >= 0.8
        objects = np.isin(scene.mask, (VEHICLE, SHIP))
        near = cv2.dilate(boxed, np.ones((3, 3), np.uint8)).astype(bool)
        assert not (objects & ~near).any()  # every object is boxed
    assert seen == set(names)


def test_box_corners_run_clockwise_around_the_right_area(scenes):
    assert sum(len(scene.boxes) for scene in scenes) > 10
    for scene in scenes:
        for box in scene.boxes:
            x, y = box.corners.astype(np.float64).T
            area = 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
            length, width = np.linalg.norm(np.diff(box.corners, axis=0), axis=1)[1::-1]
            assert area == pytest.approx(length * width, rel=1e-3)  # > 0: clockwise
            assert box.difficult == (min(length, width) < 3)


def test_dota_text_reads_back(scenes):
    scene = max(scenes, key=lambda scene: len(scene.boxes))
    source, gsd, *lines = scene.dota_text().decode().splitlines()
    assert source.startswith('imagesource:')
    assert float(gsd.removeprefix('gsd:')) == pytest.approx(scene.gsd, abs=1e-6)
    assert len(lines) == len(scene.boxes) > 10
    for line, box in zip(lines, scene.boxes, strict=True):
        *xy, category, difficult = line.split()
        read = np.array(xy, np.float32).reshape(4, 2)
        np.testing.assert_allclose(read, box.corners, atol=0.051)
        assert (category, difficult) == (box.category, str(int(box.difficult)))


def test_change_mask_is_the_difference_of_covers():
    built = removed = unchanged = 0
    for index in range(24):
        pair = make_change_pair(2, index, 96)
        differs = pair.before.cover != pair.after.cover
        np.testing.assert_array_equal(pair.change_mask, np.where(differs, 255, 0))
        assert pair.change_mask.dtype == np.uint8
        unchanged += not differs.any()
        before, after = (s.cover == BUILDING for s in (pair.before, pair.after))
        built += (after & ~before).sum() > 60
        removed += (before & ~after).sum() > 60
        # Light, season and noise differ everywhere, changed or not.
        same = (pair.before.image == pair.after.image).all(-1)
        assert same.mean() < 0.1
        assert pair.before.gsd == pair.after.gsd
    assert built >= 4 and removed >= 4
    assert 0 < unchanged < 12


def test_change_pair_is_deterministic():
    first, again = make_change_pair(2, 4, 64), make_change_pair(2, 4, 64)
    np.testing.assert_array_equal(first.before.image, again.before.image)
    np.testing.assert_array_equal(first.after.image, again.after.image)
    np.testing.assert_array_equal(first.change_mask, again.change_mask)


def test_shadow_of_a_wall_has_the_length_of_the_geometry():
    height = np.zeros((40, 80), np.float32)
    height[:, 60:64] = 8.0
    elevation = np.arctan(0.5)  # an 8 m wall throws a shadow of 16 m
    shadow = _shadow(height, np.array([1.0, 0.0]), float(elevation), gsd=0.8)
    row = shadow[20]
    assert row[66:].max() < 0.01  # the sunny side
    assert row[44:58].min() > 0.95  # 20 pixels of shade towards -x
    assert row[:38].max() < 0.01
    # Half shade lies where the tops clear the line of sight by half a metre.
    assert row[:60].sum() == pytest.approx((8 - 0.5) / 0.4, abs=0.8)


def test_split_parcels_keeps_the_area():
    square = rectangle_corners(50, 50, 100, 80, 0.3)
    parcels = split_parcels(square, 20, np.random.default_rng(0))
    assert len(parcels) > 10
    assert sum(cv2.contourArea(p) for p in parcels) == pytest.approx(8000, rel=1e-4)


def test_plan_copy_is_independent():
    plan = Plan('river', 50.0, 0, np.random.default_rng(0))
    other = plan.copy()
    other.buildings.append(None)
    assert plan.buildings == [] and other.extent == 50.0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0, 0, 63), '64 to 1024'),
        ((0, 0, 1025), '64 to 1024'),
        ((-1, 0, 64), '>= 0'),
        ((0, -1, 64), '>= 0'),
        ((0, 0, 64, 'desert'), 'desert'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scene(*arguments)


SMALL = dict(train=8, test=3, size=64, seed=1, progress=False)


def _files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_written_folders_hold_the_scenes(tmp_path):
    folders = write_demo_data(tmp_path, **SMALL)
    assert set(folders) == {'scene', 'segmentation', 'detection', 'change'}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(folders)
    train = folders['scene'] / 'train'
    assert sorted(p.name for p in train.iterdir()) == list(SCENE_CLASSES)
    assert len(list(train.rglob('*.jpg'))) == 8

    def read(path: Path) -> np.ndarray:
        return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)

    segmentation = folders['segmentation'] / 'train'
    scene = make_scene(1, 5, 64)
    image = read(segmentation / 'img/000005.png')
    np.testing.assert_array_equal(image[..., ::-1], scene.image)
    np.testing.assert_array_equal(read(segmentation / 'ann/000005.png'), scene.mask)
    jpeg = read(train / scene.scene_class / '000005.jpg')[..., ::-1]
    assert np.abs(jpeg.astype(float) - scene.image).mean() < 6  # RGB, not BGR
    pair = make_change_pair(1, 2, 64)
    change = folders['change'] / 'train'
    np.testing.assert_array_equal(read(change / 'label/000002.png'), pair.change_mask)
    np.testing.assert_array_equal(
        read(change / 'B/000002.png')[..., ::-1], pair.after.image
    )
    labels = folders['detection'] / 'test/labelTxt'
    assert len(list(labels.iterdir())) == 3
    assert labels.joinpath('000000.txt').read_text().startswith('imagesource:')
    # Test scenes are no training scenes.
    test = segmentation.parent / 'test/img/000000.png'
    assert test.read_bytes() != (segmentation / 'img/000000.png').read_bytes()


def test_complete_folder_is_reused_and_other_settings_are_refused(tmp_path):
    tasks = ('segmentation',)
    write_demo_data(tmp_path, tasks=tasks, **SMALL)
    mark = tmp_path / 'segmentation/train/img/000000.png'
    mark.write_bytes(b'untouched')
    write_demo_data(tmp_path, tasks=tasks, **SMALL)
    assert mark.read_bytes() == b'untouched'
    with pytest.raises(FileExistsError, match='overwrite'):
        write_demo_data(tmp_path, tasks=tasks, **SMALL | {'seed': 2})
    write_demo_data(tmp_path, tasks=tasks, **SMALL | {'seed': 2}, overwrite=True)
    manifest = json.loads((tmp_path / 'segmentation/demo_scenes.json').read_text())
    assert manifest['seed'] == 2
    assert mark.read_bytes() != b'untouched'


def test_foreign_folder_is_never_replaced(tmp_path):
    (tmp_path / 'change').mkdir()
    (tmp_path / 'change/thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='not made by this tool'):
        write_demo_data(tmp_path, **SMALL, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ['change']  # nothing was begun


def test_interrupted_run_continues_to_the_same_files(tmp_path, monkeypatch):
    tasks = ('change',)
    write_demo_data(tmp_path / 'whole', tasks=tasks, **SMALL)
    made = []

    def fail_at_five(seed, index, size):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(index)
        return make_change_pair(seed, index, size)

    monkeypatch.setattr(demo_scenes.writing, 'make_change_pair', fail_at_five)
    with pytest.raises(KeyboardInterrupt):
        write_demo_data(tmp_path / 'parts', tasks=tasks, **SMALL)
    assert not (tmp_path / 'parts/change/demo_scenes.json').exists()
    remade = []

    def count(seed, index, size):
        remade.append(index)
        return make_change_pair(seed, index, size)

    monkeypatch.setattr(demo_scenes.writing, 'make_change_pair', count)
    write_demo_data(tmp_path / 'parts', tasks=tasks, **SMALL)
    assert len(remade) == 11 - 5
    assert _files(tmp_path / 'parts') == _files(tmp_path / 'whole')


def test_workers_do_not_change_the_files(tmp_path):
    few = SMALL | {'train': 3, 'test': 1}
    write_demo_data(tmp_path / 'one', tasks=('detection',), **few)
    write_demo_data(tmp_path / 'two', tasks=('detection',), workers=2, **few)
    assert _files(tmp_path / 'one') == _files(tmp_path / 'two')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'tasks': ('scenes',)}, 'tasks must be'),
        ({'train': 0}, 'train must be'),
        ({'test': 0}, 'test'),
        ({'size': 32}, '64 to 1024'),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_demo_data(tmp_path / 'out', **SMALL | change)
    assert not (tmp_path / 'out').exists()


def test_file_names_restart_in_each_split():
    assert _name(12) == _name((1 << 20) + 12) == '000012'
