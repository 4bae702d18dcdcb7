# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import yaml

from cmid_mm.comparison import SpecError, check_spec, plan, read_spec
from tests.toy import toy_config

from .conftest import write_image

CONFIGS = Path(__file__).parents[2] / 'configs' / 'compare'


@pytest.mark.parametrize('file', sorted(CONFIGS.glob('*.yaml')), ids=lambda f: f.stem)
def test_shipped_specs_can_be_planned(file, monkeypatch):
    monkeypatch.chdir(CONFIGS.parents[1])
    spec = read_spec(file)
    check_spec(spec, file)
    assert plan(spec, Path('tools'))


def changed(content, path, value):
    """Set a value by the path of its keys, 'methods/cmid/options'; None removes it."""
    *parents, last = path.split('/')
    for name in parents:
        content = content[name]
    if value is None:
        del content[last]
    else:
        content[last] = value


def faults_of(comparison):
    """What is said about the spec, a line a fault, without its name."""
    with pytest.raises(SpecError) as error:
        comparison.plan()
    text = str(error.value)
    name = f'{comparison.folder / "spec.yaml"}'
    assert text.startswith(name)
    lines = text.removeprefix(name).splitlines()
    return [lines[0].removeprefix(': ')] if len(lines) == 1 else lines[1:]


FORM = [
    # (where, what stands there, what is said)
    ('seed', [1], "seed: is no key here; did you mean 'seeds'?"),
    ('seeds', 3, 'seeds: must be a valid list, got 3'),
    ('seeds', ['a'], "seeds.0: must be a valid integer, got 'a'"),
    ('seeds', [True], 'seeds.0: must be a valid integer, got True'),
    ('seeds', [-1], 'seeds.0: must be greater than or equal to 0, got -1'),
    ('seeds', [1, 1], 'seeds: must each be given once'),
    ('seeds', [], 'seeds: List should have at least 1 item'),
    ('tasks', None, 'tasks: is missing'),
    ('data', 'foo', "data: must be a mapping, got 'foo'"),
    ('backbones', ['r18'], "backbones: must be a mapping, got ['r18']"),
    ('backbones/r18', 18, 'backbones.r18: must be a valid string, got 18'),
    ('methods', ['cmid'], "methods: must be a mapping, got ['cmid']"),
    ('methods/cmid', 'x', "methods.cmid: must be a mapping, got 'x'"),
    ('methods/cmid/confg', 'x', "methods.cmid.confg: is no key here; did you mean 'co"),
    ('methods/cmid/checkpoint', 'x', 'methods.cmid: has a config and a checkpoint'),
    ('methods/cmid/config', 3, 'methods.cmid.config: must be a file, or a mapping'),
    ('methods/cmid/backbones', 'r18', 'methods.cmid.backbones: must be a valid list'),
    ('methods/random/options', {'a.b': 1}, 'methods.random: has options, but no conf'),
    ('methods/random/epochs', 9, 'methods.random: has epochs, but no config that th'),
    ('methods/a b', {}, 'methods.a b: names a folder'),
    ('methods/..', {}, 'methods...: names a folder'),
    ('methods/cmid/options', 'x=1', "methods.cmid.options: must be a mapping, got 'x"),
    (
        'methods/cmid/options/model.depth',
        'None',
        'methods.cmid.options.model.depth: is text in YAML; write null',
    ),
    (
        'methods/cmid/options/model.depth',
        {'a': [float('inf')]},
        'methods.cmid.options.model.depth: must be a finite number',
    ),
    ('tasks/record', {}, 'tasks.record: is taken'),
    ('tasks/features', 'x', "tasks.features: must be a mapping, got 'x'"),
    ('tasks/features/metric', {}, 'tasks.features.metric: is no key here; did you me'),
    ('tasks/features/epochs', 3, 'tasks.features.epochs: is no key here; there are '),
    (
        'tasks/features/metrics',
        {'knn': 'kNN'},
        "tasks.features.metrics.knn: must be 'knn_top1' or 'linear_top1', got 'knn'",
    ),
    (
        'tasks/features/options/sise',
        64,
        "tasks.features.options.sise: is no key here; did you mean 'size'?",
    ),
    (
        'tasks/features/options/size',
        'big',
        "tasks.features.options.size: must be a valid integer, got 'big'",
    ),
    ('tasks/features/options/value_range', [1], 'tasks.features.options: needs pairs'),
    ('tasks/features/options', {'size': 9}, 'tasks.features.options: needs test, a'),
    ('tasks/features/options', None, 'tasks.features.options: is missing'),
    ('tasks/change/epochs', 0, 'tasks.change.epochs: must be greater than or equal to'),
    ('tasks/change/scale', 'x', "tasks.change.scale: must be a finite number, got 'x'"),
    ('tasks/change/metrics', {}, 'tasks.change.metrics: Dictionary should have at le'),
    ('pretraining', 'foo', "pretraining: must be a mapping, got 'foo'"),
    ('pretraining/epochs', 0, 'pretraining.epochs: must be greater than or equal to 1'),
    ('pretraining/epochs', 1.5, 'pretraining.epochs: must be a valid integer'),
    (
        'pretraining/epoch',
        4,
        "pretraining.epoch: is no key here; did you mean 'epochs'",
    ),
    ('published', {'cmid': 1}, 'published: must be a valid list'),
    ('published', [{'method': 'cmid'}], 'published.0.backbone: is missing'),
]

REFERENCES = [
    ('methods/cmid/backbones', ['r50'], "methods.cmid.backbones: 'r50' is no backbone"),
    ('methods/cmid/data', ['yours'], "methods.cmid.data: 'yours' is no data set of pr"),
    ('methods/cmid/config', {'r50': 'x'}, "methods.cmid.config: 'r50' is no backbone"),
    ('methods/cmid/config', {}, 'methods.cmid.config: must be a file, or a mapping'),
    ('methods/cmid/config', {'r50': 'x'}, 'methods.cmid.config: has no file for backb'),
    ('methods/cmid/config', 'x.py', 'methods.cmid.config: config x.py does not exist'),
    (
        'methods/cmid/config',
        'nowhere::x.py',
        'methods.cmid.config: config nowhere::x.py: package nowhere is not installed',
    ),
    (
        'methods/cmid/config',
        'mmpretrain::resnet/resnet18_8xb32_in1.py',
        'methods.cmid.config: config mmpretrain::resnet/resnet18_8xb32_in1.py: mmpretr',
    ),
    ('methods/cmid/config', 'a.b::x.py', 'methods.cmid.config: config a.b::x.py: pack'),
    (
        'methods/random/checkpoint',
        'w.pth',
        'methods.random.checkpoint: w.pth does not exist; put it there, or leave',
    ),
    (
        'methods/cmid/options',
        {'modle.depth': 34},
        "the config has no 'modle' there; did you mean 'model'?",
    ),
    (
        'methods/cmid/options',
        {'model.type': {'a': 1}},
        'methods.cmid.options.model.type: ',
    ),
    ('pretraining/data', {'other': {}}, "pretraining.data: 'other' is no data set"),
    ('pretraining/data', {}, 'methods.cmid.config: needs data to train on'),
    ('pretraining/data/mine', {'x.y': 1}, 'pretraining.data.mine.x.y: '),
    ('pretraining/options', {'x.y': 1}, 'pretraining.options.x.y: '),
    ('pretraining/epochs', 1, 'pretraining.epochs: '),
    ('tasks/change/epochs', 1, 'tasks.change.epochs: '),
    ('tasks/change/options', {'x.y': 1}, 'tasks.change.options.x.y: '),
    ('tasks/change/data', 'min', "tasks.change.data: 'min' is no data set; did you me"),
    ('tasks/change/config', {'r50': 'x'}, "tasks.change.config: 'r50' is no backbone"),
    ('tasks/change/config', 'x.py', 'tasks.change.config: config x.py does not exist'),
    ('tasks/change/metrics', {'f1': ''}, "tasks.change.metrics: 'f1' is no score; did"),
    ('tasks/features/options/train_list', 'a.txt', 'tasks.features.options.train_list'),
    ('backbones/r18', 'mmseg::x.py', 'backbones.r18: config mmseg::x.py: mmseg has no'),
    (
        'data/mine',
        'gone',
        'data.mine: folder gone does not exist; give it as --data m',
    ),
    ('reference', 'cmd', "reference: 'cmd' is no method; did you mean 'cmid'?"),
    ('reference', {'r18': 'cmd'}, "reference: 'cmd' is no method; did you mean 'cmid'"),
    (
        'reference',
        {'r81': 'cmid'},
        "reference: 'r81' is no backbone; did you mean",
    ),
    ('tasks/features/options/temperature', 0, 'tasks.features.options.temperature'),
    (
        'published',
        [dict(method='cmid', backbone='r18', data='x', values={'f/F1': 1})],
        "published.0.values: 'f/F1' is no task/metric",
    ),
    (
        'published',
        [dict(method='cmid', backbone='r18', data='Mine', values={})],
        "published.0.data: 'Mine' is no data of that row; did you mean 'mine'?",
    ),
    (
        'published',
        [dict(method='cmid', backbone='r50', data='mine', values={})],
        "published.0: there is no row of method 'cmid' with backbone 'r50'",
    ),
]


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    FORM + REFERENCES,
    ids=lambda value: value if isinstance(value, str) and '/' in value else '',
)
def test_a_fault_is_named_by_the_key_of_the_spec(comparison, path, value, message):
    changed(comparison.content, path, value)
    found = [fault.strip() for fault in faults_of(comparison)]
    assert any(message in fault for fault in found)
    key = path.split('/')[0]
    assert all(fault.startswith((key, 'methods.cmid')) for fault in found)


DENSE = dict(train='a.png', test='b.png', labels='m/{stem}.png', classes=['x', 'y'])


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('metrics', {'mIoU': ''}, "metrics.mIoU: must be 'dense_mIoU' or 'dense_aAcc'"),
        ('epochs', 3, 'epochs: is no key here'),
        ('options/stage', [1], "options.stage: is no key here; did you mean 'stages'?"),
        ('options/stages', [-1], 'options.stages.0: must be greater than or equal to'),
        ('options/head', 'deep', "options.head: must be 'linear' or 'conv'"),
        ('options/reduction', 0, 'options.reduction: must be greater than or equal'),
        ('options/classes', ['x'], 'options.classes: List should have at least 2'),
        ('options/test', None, 'options: needs test, images, or test_area, polygons'),
        ('options/test', 'c*.png', 'options.test: '),
        ('options/test', '*.png', 'options: 1 of the 2 test images are learnt from'),
        (
            'options/label_map',
            {0: 'z'},
            "0 stands for 'z', which is none of",
        ),
        ('options/bands', [1, 2, 4], 'bands=[1, 2, 4] was asked for'),
        ('options/labels', 'a.gpkg', 'a.gpkg does not exist'),
        ('options/test_area', 'b.gpkg', 'b.gpkg does not exist'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_fault_of_a_dense_task(comparison, path, value, message):
    for name in 'ab':
        write_image(comparison.images / f'{name}.png')
        write_image(comparison.images / 'm' / f'{name}.png', mode='L')
    task = dict(data='mine', options=dict(DENSE), metrics=dict(dense_mIoU=''))
    comparison.content['tasks'] = dict(pixels=task)
    comparison.plan()
    changed(task, path, value)
    (fault,) = faults_of(comparison)
    assert fault.startswith('tasks.pixels.')
    assert message in fault


def test_stages_that_a_backbone_lacks_are_told_before_it_is_trained(comparison):
    for name in 'ab':
        write_image(comparison.images / f'{name}.png')
        write_image(comparison.images / 'm' / f'{name}.png', mode='L')
    comparison.config.write_text(f'model = {toy_config()!r}')
    task = dict(data='mine', options=dict(DENSE), metrics=dict(dense_mIoU=''))
    comparison.content |= dict(
        tasks=dict(pixels=task), methods=dict(random={}), reference='random'
    )
    task['options']['stages'] = [1, 3]
    comparison.plan()
    task['options']['stages'] = [1, 8]
    (fault,) = faults_of(comparison)
    assert fault.startswith('tasks.pixels.options.stages: ResNet gives outputs')


def test_a_setting_is_told_by_the_option_that_sets_it(comparison):
    comparison.content['methods']['cmid']['options'] = {'train_cfg.val_interval': 0}
    (fault,) = faults_of(comparison)
    assert fault.startswith('methods.cmid.options.train_cfg.val_interval: ')


FAULTS = {
    'form': {
        'seeds': ['a'],
        'data': 'foo',
        'backbones': ['r18'],
        'pretraining/epochs': 0,
        'methods/cmid/confg': 'x',
        'tasks/features/options/sise': 3,
    },
    'references': {
        'methods/cmid/options': {'modle.depth': 34, 'model.width.x': 2},
        'pretraining/epochs': 1,
        'tasks/change/metrics': {'f1': ''},
        'tasks/change/data': 'min',
        'backbones/r50': 'nowhere.py',
        'data/mine': 'gone',
        'reference': 'cmd',
    },
}


@pytest.mark.parametrize('kind', FAULTS)
def test_all_faults_are_told_at_once(comparison, kind):
    for path, value in FAULTS[kind].items():
        changed(comparison.content, path, value)
    if kind == 'references':
        # A training is looked into for its length where its options fit.
        comparison.content['methods']['long'] = dict(config=str(comparison.config))
    found = [line.strip() for line in faults_of(comparison)]
    for path in FAULTS[kind]:
        assert any(line.startswith(path.replace('/', '.')) for line in found), path
    if kind == 'references':
        assert any('options.model.width.x' in line for line in found)


def test_a_config_that_cannot_be_read_is_named(comparison):
    comparison.config.write_text('model = dict(depth=1/0)')
    found = faults_of(comparison)
    where = ('backbones.r18', 'methods.cmid.config', 'tasks.change.config')
    assert all(any(f.strip().startswith(key) for f in found) for key in where)
    assert all('cannot be read: ZeroDivisionError' in fault for fault in found)


LENGTHS = {
    'max_iters=10)': 'does not count in epochs',
    "max_epochs=9); param_scheduler = dict(type='LinearLR', end=5)": (
        '4 epochs end before param_scheduler (LinearLR) does, which counts on 5'
    ),
    "max_epochs=9); param_scheduler = [dict(type='CosineAnnealingLR', begin=4)]": (
        '4 epochs are not longer than what comes before param_scheduler.0 (CosineAnn'
    ),
    "max_epochs=9); param_scheduler = [dict(type='StepLR', milestones=[2, 7])]": (
        '4 epochs end before param_scheduler.0 (StepLR) does, which counts on 8'
    ),
}


@pytest.mark.parametrize('text', LENGTHS)
def test_epochs_that_a_schedule_does_not_fit_into(comparison, text):
    comparison.content['pretraining']['options'] = {}
    comparison.content['methods']['cmid']['options'] = {}
    config = comparison.folder / 'other.py'
    config.write_text(f'train_cfg = dict({text}')
    comparison.content['methods']['cmid']['config'] = str(config)
    (found,) = faults_of(comparison)
    assert found.startswith(f'pretraining.epochs: {config}')
    assert LENGTHS[text] in found


def test_a_task_without_a_test_is_refused(comparison):
    config = comparison.folder / 'other.py'
    config.write_text('train_cfg = dict(max_epochs=9)')
    comparison.content['tasks']['change']['config'] = str(config)
    (found,) = faults_of(comparison)
    assert found.startswith(f'tasks.change.config: {config} has no test_dataloader')


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SpecError, match=f'{tmp_path} cannot be read: Is a directory'):
        read_spec(tmp_path)
    with pytest.raises(FileNotFoundError, match='nothing.yaml'):
        read_spec('nothing.yaml')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a: [1', 'cannot be read as YAML'),
        ('data: {a: b}\ndata: {a: c}', "key 'data' is given twice .*line 2"),
        ('', 'has 6 faults'),
        ('[1, 2]', 'the file: must be a mapping, got .1, 2'),
        ('output: 3', r'output: must be a valid path, got 3|Input'),
    ],
)
def test_no_spec_at_all(tmp_path, text, message):
    file = tmp_path / 'spec.yaml'
    file.write_text(text)
    with pytest.raises(SpecError, match=message):
        read_spec(file)


def test_ordinary_yaml(comparison, tmp_path):
    """Numbers without a point, merged mappings, keys without a value."""
    text = yaml.safe_dump(comparison.content, sort_keys=False)
    text = text.replace('model.depth: 34', 'model.depth: 34\n      model.rate: 1e-3')
    text += 'source:\npublished:\n'
    text = text.replace('    label: random', '    label:')
    text = text.replace('  cmid:\n', '  cmid: &cmid\n').replace(
        'tasks:\n',
        '  other: {<<: *cmid, label: other, options: {model.depth: 50}}\ntasks:\n',
    )
    file = tmp_path / 'ordinary.yaml'
    file.write_text(text)
    spec = read_spec(file)
    assert spec.methods['cmid'].options == {'model.depth': 34, 'model.rate': 0.001}
    assert spec.methods['other'].options == {'model.depth': 50}
    assert spec.label('other') == 'other'
    assert spec.label('random') == 'random'
    assert (spec.source, spec.published) == (None, [])


def test_part_of_a_comparison_and_other_folders(comparison):
    spec = read_spec(comparison.write(), 'elsewhere')
    assert spec.output == Path('elsewhere')
    part = spec.only(['random'], [2])
    assert (list(part.methods), part.seeds) == (['random'], [2])
    assert spec.with_data({'mine': 'there'}).data == {'mine': 'there'}
    for wrong, message in (
        (lambda: spec.only(['rndom'], None), "--only: 'rndom' is no method; did you"),
        (lambda: spec.only(None, [7]), r'--seeds: 7 is no seed; there are 0, 1'),
        (lambda: spec.with_data({'yours': 'x'}), "--data: 'yours' is no data set"),
    ):
        with pytest.raises(SpecError, match=message):
            wrong()


def test_inputs_of_the_part_that_runs_are_looked_for(comparison):
    comparison.content['data']['other'] = 'gone'
    comparison.content['pretraining']['data'] = {'other': {}}
    comparison.content['methods']['foreign'] = {'checkpoint': 'gone.pth'}
    file = comparison.write()
    spec = read_spec(file)
    check_spec(spec, file)
    check_spec(spec, file, inputs=spec.only(['random'], None))
    with pytest.raises(SpecError, match=r'data\.other: folder gone'):
        check_spec(spec, file, inputs=spec.only(['cmid'], None))
    with pytest.raises(SpecError, match=r'methods\.foreign\.checkpoint: gone\.pth'):
        check_spec(spec, file, inputs=spec.only(['foreign'], None))


def test_a_model_that_cannot_be_built_is_told_before_anything_runs(comparison):
    comparison.content['methods']['cmid']['options'] = {'model.width': 35}
    (found,) = faults_of(comparison)
    assert found == (
        f'methods.cmid.config: {comparison.config}: model (Network): depth=18 is less '
        'than width=35'
    )
