# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Recipes for scenes of other bands than RGB, each trained on scenes of its kind."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from rasterio.transform import from_origin

from cmid_mm.configs import load_config

FOLDER = Path(__file__).parents[1] / 'configs' / 'cmid'
#: Bands of the files, their type, and values that hold most of such scenes.
KINDS = {
    'cmid_r50_sentinel2': (12, 'uint16', (200, 5000)),
    'cmid_r50_sentinel2-12bands': (12, 'uint16', (200, 5000)),
    'cmid_r50_landsat': (7, 'uint16', (7500, 20000)),
    'cmid_r50_sentinel1': (2, 'float32', (-28, -5)),
    'cmid_r50_aerial-rgbn': (4, 'uint8', (10, 240)),
}
SIZE = 64
SENTINEL2 = 'B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12'.split()


def write_scenes(folder: Path, bands: int, dtype: str, limits: tuple) -> None:
    """Write two smooth scenes whose left edge holds no data."""
    rng = np.random.default_rng(0)
    nodata = np.nan if dtype == 'float32' else 0
    for number in range(2):
        coarse = rng.uniform(*limits, (bands, 8, 8)).astype(np.float32)
        values = np.stack([cv2.resize(band, (160, 160)) for band in coarse])
        values[:, :, :20] = nodata
        with rasterio.open(
            *(folder / f'{number}.tif', 'w', 'GTiff'),
            height=160,
            width=160,
            count=bands,
            dtype=dtype,
            nodata=nodata,
            crs='EPSG:32632',
            transform=from_origin(500000, 5000000, 10, 10),
        ) as file:
            file.write(values.astype(dtype))
            if bands == 12:
                file.descriptions = SENTINEL2


@pytest.fixture
def recipe(tmp_path):
    """A recipe made small, for scenes of its kind."""

    def get(name: str) -> Config:
        write_scenes(tmp_path, *KINDS[name])
        cfg = load_config(str(FOLDER / f'{name}.py'))
        dataset = cfg.train_dataloader.dataset
        for step in dataset.pipeline:
            if 'size' in step:
                step.size = SIZE
        dataset.update(data_root=str(tmp_path), tile_size=SIZE, per_epoch=6)
        cfg.model.encoder.backbone.depth = 18
        for head in cfg.model.heads.values():
            head.in_channels = 512
        cfg.model.heads.contrastive.update(queue_size=8, hidden_channels=64)
        cfg.model.heads.assignment.update(hidden_channels=64, num_prototypes=64)
        return cfg

    return get


def test_there_is_a_kind_of_scenes_for_each_recipe():
    recipes = {
        path.stem
        for path in FOLDER.glob('*.py')
        if load_config(str(path)).train_dataloader.dataset.type == 'SceneWindows'
        and not path.stem.startswith('cmid-distil')
    }
    assert recipes == set(KINDS)


@pytest.mark.parametrize('name', KINDS)
def test_values_and_statistics_fit(name, recipe):
    cfg = recipe(name)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    inputs = dataset[0]['inputs']
    bands = 10 if name == 'cmid_r50_sentinel2' else KINDS[name][0]
    assert inputs.shape == (2, bands, SIZE, SIZE)
    mean, std = cfg.data_preprocessor.mean, cfg.data_preprocessor.std
    assert len(mean) == len(std) == bands
    # Normalised, no band is far off, flat or wild; none lies at an end of the range.
    org = np.stack([dataset[key]['inputs'][0].numpy() for key in range(6)])
    middle = org.mean(axis=(0, 2, 3))
    assert (np.abs(middle - mean) < 2 * np.array(std)).all()
    assert (org.std(axis=(0, 2, 3)) > 0.2 * np.array(std)).all()
    assert 0 < org.min(axis=(0, 2, 3)).max() and org.max() < 255


@pytest.mark.parametrize('name', KINDS)
def test_a_recipe_trains(name, recipe, tmp_path):
    cfg = recipe(name)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.optim_wrapper.type = 'OptimWrapper'  # no AMP on a CPU
    cfg.train_dataloader.dataset.per_epoch = 4
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.interval = -1
    for hook in cfg.custom_hooks:
        if hook.type == 'ReconstructionHook':
            hook.update(interval=1, num_images=2)
    cfg.update(work_dir=str(tmp_path / 'work'), log_level='WARNING')
    cfg.visualizer.vis_backends = []
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    losses = runner.message_hub.get_scalar('train/loss')
    assert np.isfinite(losses.current())
    (picture,) = (tmp_path / 'work/vis_data/reconstruction').glob('*.png')
    assert cv2.imread(str(picture)).std() > 10
