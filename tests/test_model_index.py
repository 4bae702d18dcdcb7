# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""The index of models by which mim and mmpretrain find configs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
import yaml
from modelindex.load_model_index import load

import cmid_mm  # noqa: F401
from cmid_mm.checkpoints import CheckpointError, load_weights
from cmid_mm.configs import load_config

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent.name for path in ROOT.glob('configs/*/*_*.py'))
FOLDERS = sorted({folder for folder in FOLDERS if folder != '_base_'})


@pytest.fixture(scope='module')
def index():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    return index


def test_every_config_is_listed_once(index):
    found = [model.config for model in index.models]
    expected = [
        f'configs/{path.parent.name}/{path.name}'
        for folder in FOLDERS
        for path in (ROOT / 'configs' / folder).glob('*.py')
    ]
    assert len(expected) > 80 and sorted(found) == sorted(expected)
    for model in index.models:
        assert model.name == Path(model.config).stem


@pytest.mark.parametrize('folder', FOLDERS)
def test_what_is_said_of_a_config_is_so(folder):
    said = yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())
    assert said['Collections'] and said['Models']
    assert all((ROOT / kind['README']).is_file() for kind in said['Collections'])
    for model in said['Models']:
        cfg = load_config(str(ROOT / model['Config']))
        facts = model['Metadata']
        schedule = cfg.train_cfg
        assert facts.get('Epochs') == schedule.get('max_epochs'), model['Name']
        assert facts.get('Iterations') == schedule.get('max_iters'), model['Name']
        scaling = cfg.get('auto_scale_lr') or {}
        batch = scaling.get('base_batch_size', cfg.train_dataloader.batch_size)
        assert facts['Batch Size'] == batch, model['Name']


def test_figures_are_those_of_the_pages(index):
    figures = {
        (model.name, result.dataset, metric): value
        for model in index.models
        for result in model.results or ()
        for metric, value in result.metrics.items()
    }
    pages = ''.join(path.read_text() for path in (ROOT / 'configs').glob('*/README.md'))
    pages += ''.join(path.read_text() for path in ROOT.glob('configs/compare/*.yaml'))
    measured = (ROOT / 'docs' / 'results.md').read_text().partition('Measured here')[2]
    for (name, _, metric), value in figures.items():
        source, digits = (pages, 2) if metric[:10] == 'Published ' else (measured, 1)
        assert metric.startswith(('Published ', 'Measured ')), name
        assert re.search(rf'\b{value:.{digits}f}\b', source), (name, metric)
    assert sum(metric.startswith('Published ') for *_, metric in figures) == 18
    assert figures['bit_swin-b_cdd', 'CDD', 'Published mF1'] == 97.11
    assert figures['cmid_r18_scenes', 'RSSCN7', 'Measured 20-NN (8 epochs)'] == 69.4


def test_mmpretrain_knows_the_names():
    names = mmpretrain.list_models('*cmid*')
    assert 'cmid_r50_millionaid' in names
    assert 'resnet50_ucmerced' in mmpretrain.list_models(task='Image Classification')
    assert not mmpretrain.list_models('upernet')  # it could not build it
    model = mmpretrain.get_model('cmid_r18_scenes')
    assert type(model).__name__ == 'CMID'
    assert Path(model._config.filename) == ROOT / 'configs/cmid/cmid_r18_scenes.py'


def test_files_of_other_networks_are_refused_as_the_page_says(tmp_path):
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'backbone.layer9.weight': torch.ones(1)}), other)
    mmpretrain.get_model('resnet18_demo', pretrained=str(other))  # logs it
    model = mmpretrain.get_model('resnet18_demo')
    with pytest.raises(CheckpointError, match='Weights missing in the file: 102'):
        load_weights(model, other)


@pytest.mark.parametrize(
    ('package', 'kind', 'name'),
    [
        ('mmseg', 'MMSegInferencer', 'upernet_r18_demo'),
        ('mmseg', 'MMSegInferencer', 'bit_r18_demo'),
        ('mmdet', 'DetInferencer', 'oriented-rcnn_r18_demo'),
    ],
)
def test_inferencers_of_other_packages_know_the_names(package, kind, name):
    inferencer = getattr(pytest.importorskip(f'{package}.apis'), kind)
    found, weights = inferencer._load_model_from_metafile(None, name)
    assert Path(found.filename).stem == name and weights is None
    with pytest.raises(AttributeError):  # asks the package itself, by its scope
        inferencer._load_model_from_metafile(None, 'pspnet_r50')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder with the installed wheel."""
    pytest.importorskip('mim')
    folder = tmp_path_factory.mktemp('wheel')
    listed = ['git', 'ls-files', '-co', '--exclude-standard']
    names = subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(('tests/', 'docs/')):
            copy = folder / 'source' / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    subprocess.check_call(
        [
            *(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index'),
            *('--no-build-isolation', '--target', folder / 'site', folder / 'source'),
        ]
    )
    return folder / 'site'


def test_mim_finds_and_runs_the_installed_package(site, tmp_path):
    paths = (str(site), os.environ.get('PYTHONPATH', ''))
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}

    def mim(*args: object) -> str:
        return subprocess.check_output(
            [sys.executable, '-W', 'ignore', '-m', 'mim', *map(str, args)],
            cwd=tmp_path,
            env=environment,
            text=True,
        )

    assert (site / 'cmid_mm' / '.mim' / 'model-index.yml').is_file()
    assert re.search(r'^cmid[-_]mm ', mim('list'), re.MULTILINE)
    found = mim('search', 'cmid_mm', '--config', 'bit_swin-b_cdd')
    assert re.search(r'published_mf1 +97.11', found)
    made = ('--tasks', 'scene', '--train', 16, '--test', 8, '--size', 64)
    mim('run', 'cmid_mm', 'make_demo_data', 'data', *made)
    options = (
        *('train_cfg.max_epochs=1', 'train_dataloader.batch_size=4'),
        *('train_dataloader.num_workers=0', 'val_dataloader.num_workers=0'),
        *('train_dataloader.persistent_workers=False', 'val_dataloader.batch_size=4'),
        'val_dataloader.persistent_workers=False',
        'train_dataloader.dataset.fraction=1.0',
    )
    common = ('--gpus', 0, '--data-root', 'data/scene', '--work-dir', 'work')
    config = 'resnet18_demo.py'  # found by its name
    mim('train', 'cmid_mm', config, *common, '--cfg-options', *options)
    trained = tmp_path / 'work' / 'epoch_1.pth'
    assert trained.is_file()
    said = mim('test', 'cmid_mm', config, '--checkpoint', trained, *common)
    assert 'Testing finished successfully' in said
