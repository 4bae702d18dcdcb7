# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from cmid_mm.models.heads.assignment_head import match_cells, on_same_ground
from cmid_mm.visualization.drawing import (
    TITLE_HEIGHT,
    box_corners,
    draw_boxes,
    fit,
    overlay_change,
    overlay_mask,
    palette_of,
    to_picture,
)
from cmid_mm.visualization.panels import LEAST_SIDE, mask_panel
from cmid_mm.visualization.samples import SampleBrowser
from tests.end_to_end.pretraining import toy_run, write_images
from tests.toy_baselines import SMALL, toy_baseline


def browser(tmp_path, **changes):
    write_images(tmp_path / 'images', 4)
    cfg = toy_run(tmp_path / 'images', tmp_path)
    cfg.model.heads.assignment.update(changes)
    return SampleBrowser(cfg)


def test_pretraining_views_are_what_the_network_sees(tmp_path):
    shown = browser(tmp_path)
    shown.model.heads = torch.nn.ModuleDict()  # no matches drawn over the pixels
    ((_, picture),) = shown.draw(1)
    sample = shown.dataset[0]
    side = LEAST_SIDE  # 64 pixels, five times
    top = TITLE_HEIGHT
    teacher = picture[top : top + side, -side:][2::5, 2::5]
    assert (teacher == sample['inputs'][1].permute(1, 2, 0).numpy()).all()
    student = picture[top : top + side, :side][2::5, 2::5].astype(float)
    org = sample['inputs'][0].permute(1, 2, 0).numpy().astype(float)
    hidden = np.kron(sample['masks'][0].numpy(), np.ones((16, 16))) > 0
    assert (student[~hidden] == org[~hidden]).all()
    assert np.abs(student[hidden] - org.mean((0, 1))).max() <= 1


@pytest.mark.parametrize('location', ['pixel', 'legacy'])
def test_matches_are_those_of_the_head(tmp_path, location):
    shown = browser(tmp_path, location=location, num_matches=3)
    generator = torch.Generator().manual_seed(0)
    # Crops of a loaded image that is larger than the views.
    boxes = [torch.rand(2, 5, generator=generator) * 120 + 60 for _ in range(2)]
    data = dict(images=[torch.randn(2, 3, 64, 64)] * 2, boxes=boxes)
    head = shown.model.heads['assignment']
    directions = shown._matches(data, head)
    grids = [head.locate(box, (2, 2), (64, 64)) for box in boxes]
    for (grid, pairs, near), (query, key) in zip(
        directions, ((0, 1), (1, 0)), strict=True
    ):
        chosen, nearest = match_cells(grids[query], grids[key], 3)
        assert grid == (2, 2)
        assert (pairs[..., 0] == chosen.numpy()).all()
        assert (pairs[..., 1] == nearest.numpy()).all()
        same = on_same_ground(boxes[query], boxes[key], (2, 2), chosen, nearest)
        assert (near == same.numpy()).all()


def test_matches_are_of_the_stage_of_the_head(tmp_path):
    write_images(tmp_path / 'images', 4)
    cfg = toy_run(tmp_path / 'images', tmp_path)
    cfg.model.encoder.backbone.out_indices = (2, 3)
    cfg.model.heads.assignment.update(stage=-2, in_channels=32)
    shown = SampleBrowser(cfg)
    boxes = [torch.rand(2, 5) * 20 + 40 for _ in range(2)]
    data = dict(images=[torch.randn(2, 3, 64, 64)] * 2, boxes=boxes)
    ((grid, *_), _) = shown._matches(data, shown.model.heads['assignment'])
    assert grid == (4, 4)


def test_crosses_do_not_depend_on_the_size_of_the_loaded_image(tmp_path):
    shown = browser(tmp_path, num_matches=4)
    head = shown.model.heads['assignment']
    images = [torch.randn(1, 3, 64, 64)] * 2
    # Cells of a quarter of the image's side. Shifted by 0.6 of a cell, the lower row
    # of the one crop lies at 0.4 from the upper row of the other.
    for side in (64, 192, 640):
        for shift, expected in ((0.4, [True] * 4), (0.6, [False] * 2 + [True] * 2)):
            org = torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.0]]) * side
            view = torch.tensor([[shift / 4, 0.0, 0.5, 0.5, 0.0]]) * side
            data = dict(images=images, boxes=[org, view])
            _, _, near = shown._matches(data, head)[0]
            assert near.tolist() == [expected]


def test_same_seed_same_pictures(tmp_path):
    first, again = (browser(tmp_path).draw(2) for _ in range(2))
    for (name, one), (other_name, other) in zip(first, again, strict=True):
        assert name == other_name and (one == other).all()
    cfg = toy_run(tmp_path / 'images', tmp_path)
    other = dict(SampleBrowser(cfg, seed=1).draw(1))
    assert any((picture != one).any() for picture in other.values())


def test_colours_and_mixed_classes(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 200  # OpenCV's order
    for name in 'ab':
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), red)
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='ResNet', depth=18, base_channels=4, stem_channels=4
                ),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
                train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)),
            ),
            data_preprocessor=dict(
                mean=[100.0, 50, 25], std=[10.0, 20, 30], to_rgb=True, num_classes=2
            ),
            train_dataloader=dict(
                collate_fn=dict(type='default_collate'),
                dataset=dict(
                    type='SceneDataset',
                    data_root=str(tmp_path),
                    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
                ),
            ),
        )
    )
    pictures = dict(SampleBrowser(cfg).draw(2))
    assert len(pictures) == 2
    for picture in pictures.values():
        assert (np.abs(picture[TITLE_HEIGHT:] - [200, 0, 0]) <= 1).all()
        assert (picture[:TITLE_HEIGHT] < 100).any()  # the classes


@pytest.mark.parametrize(
    'name', [name for name in SMALL if not name.startswith('a2mim')]
)
def test_other_methods_show_both_views(tmp_path, name):
    cfg = toy_baseline(name)
    cfg.train_dataloader.dataset.data_root = str(write_images(tmp_path / 'images', 3))
    for step in cfg.train_dataloader.dataset.pipeline:
        if 'size' in step:
            step.size = 64
    shown = SampleBrowser(cfg)
    pictures = [picture for _, picture in shown.draw(3)]
    assert len(pictures) == 3
    factor = -(-LEAST_SIDE // 64)
    masked = name.startswith('simmim')
    for index, picture in enumerate(pictures):
        sample = shown.dataset[index]
        side = 64 * factor
        for left, view, cells in zip(
            (0, picture.shape[1] - side), sample['inputs'], sample['masks'], strict=True
        ):
            pixels = picture[TITLE_HEIGHT:, left : left + side][2::factor, 2::factor]
            seen = view.permute(1, 2, 0).numpy()
            hidden = np.kron(cells.numpy(), np.ones((16, 16))) > 0
            assert hidden.any() and not hidden.all()
            assert (pixels[~hidden] == seen[~hidden]).all()
            assert (pixels[hidden] == seen[hidden]).all() != masked


def test_bad_split(tmp_path):
    cfg = toy_run(write_images(tmp_path / 'images', 2), tmp_path)
    with pytest.raises(ValueError, match='no val_dataloader'):
        SampleBrowser(cfg, 'val')


def test_to_picture_of_many_bands():
    pixels = np.random.rand(50, 50, 5) * [1, 10, 100, 1000, 10000]
    shown = to_picture(pixels, (4, 3, 2))
    for channel, band in enumerate((3, 2, 1)):
        assert (
            np.corrcoef(shown[..., channel].ravel(), pixels[..., band].ravel())[0, 1]
            > 0.99
        )
        assert shown[..., channel].min() == 0 and shown[..., channel].max() == 255
    with pytest.raises(ValueError, match='one or three of 1 to 5'):
        to_picture(pixels, (0, 1, 2))


def test_masks_are_blended_and_ignored_ones_hatched():
    image = np.full((16, 16, 3), 100, np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    drawn = overlay_mask(image, mask, [(200, 0, 0)], alpha=0.5)
    assert (drawn[:, :8] == (150, 50, 50)).all()
    greys = np.unique(drawn[:, 8:])
    assert 60 in greys and len(greys) == 2
    panel = mask_panel(image, {'label': mask}, {'classes': ['road']})
    assert panel.shape[1] == 2 * LEAST_SIDE + 4


def test_changes_are_tinted_and_the_rest_left():
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    drawn = overlay_change(image, mask)
    assert (drawn[mask == 0] == 100).all()
    assert (drawn[10, 10] == (162, 60, 60)).all()
    assert (drawn[5, 5] == (255, 255, 0)).all()


def test_corners_of_boxes():
    # A box of 20 x 10, turned by 90 degrees, stands upright.
    (corners,) = box_corners(np.array([[50, 40, 20, 10, np.pi / 2]]))
    assert corners.reshape(4, 2).min(0) == pytest.approx([45, 30])
    assert corners.reshape(4, 2).max(0) == pytest.approx([55, 50])
    (turned,) = box_corners(np.array([[0, 0, 2, 0, np.pi / 4]]))
    assert turned[2:4] == pytest.approx([0.5**0.5, 0.5**0.5])  # clockwise in pixels
    (upright,) = box_corners(np.array([[1, 2, 5, 8]]))
    assert upright.tolist() == [1, 2, 5, 2, 5, 8, 1, 8]


def test_boxes_are_drawn_where_they_are():
    image = np.zeros((100, 100, 3), np.uint8)
    corners = np.array([[20, 30, 60, 30, 60, 50, 20, 50]])
    drawn = draw_boxes(image, corners, [0], ['ship'], [(0, 255, 0)], most_texts=0)
    assert (drawn[30, 40] == (0, 255, 0)).all() and (drawn[40, 20] == (0, 255, 0)).all()
    assert not drawn[40, 40].any() and not drawn[80].any()


def test_palettes_and_fitting():
    assert palette_of({'palette': [[1, 2, 3]]}, 1) == [(1, 2, 3)]
    assert len(set(palette_of({}, 40))) == 40
    assert fit(np.zeros((100, 50, 3), np.uint8), 20).shape == (20, 10, 3)
