# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from cmid_mm.comparison import SpecError, plan, read_spec

CONFIGS = Path(__file__).parents[2] / 'configs' / 'compare'


@pytest.mark.parametrize('file', sorted(CONFIGS.glob('*.yaml')), ids=lambda f: f.stem)
def test_shipped_specs_can_be_planned(file, monkeypatch):
    monkeypatch.chdir(CONFIGS.parents[1])
    spec = read_spec(file)
    assert plan(spec, Path('tools'))


def change(path, value):
    def apply(content):
        *parents, last = path.split('.')
        for name in parents:
            content = content[name]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return apply


@pytest.mark.parametrize(
    ('fault', 'message'),
    [
        (change('seed', [1]), "'seed' is no key of the file; did you mean 'seeds'?"),
        (change('seeds', 3), 'seeds of the file cannot be 3'),
        (change('tasks', None), "the file needs 'tasks'"),
        (
            change('methods.cmid.confg', 'x'),
            "method cmid; did you mean 'config'",
        ),
        (change('methods.cmid.checkpoint', 'x'), 'has a config and a checkpoint'),
        (change('methods.cmid.backbones', ['r50']), "'r50' is no backbone"),
        (change('tasks.change.data', 'min'), "did you mean 'mine'"),
        (change('tasks.change.config', {'r50': 'x'}), "'r50' is no backbone (task"),
        (change('methods.cmid.config', {'r50': 'x'}), 'no config for backbone r18'),
        (change('methods.cmid.data', ['yours']), 'no data set of the pre-training'),
        (change('pretraining.data', {'other': None}), "'other' is no data set"),
        (change('reference', 'cmd'), "did you mean 'cmid'"),
        (change('methods.a b', {}), 'names a folder'),
        (
            change(
                'published',
                [dict(method='cmid', backbone='r18', data='x', values={'f/F1': 1})],
            ),
            "'f/F1' is no task/metric",
        ),
    ],
)
def test_faults_are_named(comparison, fault, message):
    fault(comparison.content)
    with pytest.raises(SpecError) as error:
        read_spec(comparison.write())
    assert message in str(error.value)
    assert 'spec.yaml' in str(error.value)


def test_missing_files_are_named(comparison):
    with pytest.raises(FileNotFoundError, match='nothing.yaml'):
        read_spec('nothing.yaml')
    change('tasks.change.config', 'nowhere.py')(comparison.content)
    with pytest.raises(FileNotFoundError, match=r'task change: config nowhere\.py'):
        read_spec(comparison.write())


def test_no_yaml(tmp_path):
    file = tmp_path / 'spec.yaml'
    file.write_text('a: [1')
    with pytest.raises(SpecError, match='is no YAML'):
        read_spec(file)


def test_part_of_a_comparison_and_other_folders(comparison):
    spec = read_spec(comparison.write(), 'elsewhere')
    assert spec.output == Path('elsewhere')
    part = spec.only(['random'], [2])
    assert (list(part.methods), part.seeds) == (['random'], [2])
    assert spec.with_data({'mine': 'there'}).data == {'mine': 'there'}
    for wrong in (
        lambda: spec.only(['rndom'], None),
        lambda: spec.only(None, [7]),
        lambda: spec.with_data({'yours': 'x'}),
    ):
        with pytest.raises(SpecError):
            wrong()
    with pytest.raises(FileNotFoundError, match='--data mine=FOLDER'):
        spec.with_data({'mine': 'not there'}).check_inputs()
