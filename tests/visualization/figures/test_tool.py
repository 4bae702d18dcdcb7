# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import argparse
import json

import pytest
from mmengine.config import Config
from PIL import Image

from cmid_mm_cli.commands import load_commands
from tests.toy import toy_config

from .made import colours, write_cells


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Run the command on a toy config, untrained."""
    folder = tmp_path_factory.mktemp('tool')
    pipeline = [
        dict(type='LoadImagery', size=64),
        dict(type='MaskPair', size=64),
    ]
    config = folder / 'toy.py'
    dataset = dict(type='ImageryDataset', data_root='.', pipeline=pipeline)
    Config(dict(model=toy_config(), train_dataloader=dict(dataset=dataset))).dump(
        config
    )
    images = [write_cells(folder / f'{i}.png', colours(4, 4, i)) for i in (0, 1)]
    command = load_commands()['visualize']

    def run(what, *options, count=1):
        parser = argparse.ArgumentParser()
        command.prepare(parser)
        words = [what, config, 'random', *images[:count], '--device', 'cpu', *options]
        if what == 'curves':
            words = [what, *options]
        args = parser.parse_args([str(word) for word in words])
        command.main(args)

    return run


@pytest.mark.parametrize(
    ('what', 'options'),
    [
        ('reconstruction', ()),
        ('attention', ()),
        ('correspondence', ()),
        ('similarity', ('--point', 70, 10)),
        ('pca', ('--width', 7)),
        ('prototypes', ('--count', 2)),
    ],
)
def test_figures_of_the_width_of_a_column(run, tmp_path, what, options):
    out = tmp_path / 'new' / f'{what}.png'
    run(what, *options, '--out', out)
    inches = 7 if '--width' in options else 3.5
    with Image.open(out) as picture:
        assert picture.width == 200 * inches


def test_text_of_vector_figures_stays_text(run, tmp_path):
    run('pca', '--out', tmp_path / 'a.svg')
    assert 'PCA 1-3' in (tmp_path / 'a.svg').read_text()
    run('curves', _log(tmp_path), '--out', tmp_path / 'a.pdf')
    assert (tmp_path / 'a.pdf').read_bytes().startswith(b'%PDF')


def _log(folder):
    log = folder / 'scalars.json'
    log.write_text(''.join(json.dumps(dict(loss=1, step=i)) + '\n' for i in (1, 2)))
    return log


@pytest.mark.parametrize(
    ('what', 'options', 'message'),
    [
        ('pca', ('--out', 'a.jpg'), 'a.jpg: figures are written as png, svg, pdf'),
        ('similarity', ('--point', 128, 0), r'\(128, 0\) lies outside of .*0.png'),
        ('attention', ('--layer', 1), 'ResNet has no layers of attention .*leave out'),
        ('map', (), '0.png is not a folder'),
        ('pca', ('--show-bands', 1, 2), 'bands must be one or three of 1 to 3'),
        ('pca', ('--stages', 7), r'ResNet gives .* of the stages \[7\]'),
    ],
)
def test_what_is_refused(run, tmp_path, monkeypatch, what, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(what, *options)
