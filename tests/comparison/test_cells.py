# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import argparse
import runpy
from pathlib import Path

import pytest

from cmid_mm.comparison import SpecError
from cmid_mm.comparison.settings import load

from .conftest import write_image

ROOT = Path(__file__).parents[2]


def test_cells_run_seed_by_seed(comparison):
    cells = comparison.plan()
    assert [(cell.method, cell.seed) for cell in cells] == [
        (method, seed) for seed in (0, 1, 2) for method in ('random', 'cmid')
    ]
    steps = [step.name for step in cells[1].steps]
    assert steps == ['pretraining', 'features', 'change']
    assert [step.name for step in cells[0].steps] == steps[1:]


def test_commands_and_configs_say_everything(comparison):
    step = comparison.plan()[3].steps[0]
    (train,) = step.commands
    folder = comparison.folder / 'out/mine/r18/cmid/seed-1'
    assert train[2] == str(step.run_config.file) == str(folder / 'pretraining.py')
    assert train[train.index('--data-root') + 1] == str(comparison.images)
    assert '--resume' in train
    cfg = step.run_config.config
    # The schedules end with the training, the warm-up where it ended before.
    assert cfg.randomness.seed == 1
    assert cfg.train_cfg.max_epochs == 4
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.end, cosine.begin, cosine.end, cosine.T_max) == (1, 1, 4, 3)
    assert (cfg.model.width, cfg.model.depth) == (1, 34)
    # Weights of a network that options have changed need the same options.
    (features,) = comparison.plan()[3].steps[1].commands
    assert features[2] == train[2]


def test_a_method_of_another_length(comparison):
    comparison.content['methods']['cmid']['epochs'] = 7
    cfg = comparison.plan()[3].steps[0].run_config.config
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 7


def test_one_schedule_alone_and_schedules_in_iterations(comparison):
    comparison.config.write_text(
        'train_cfg = dict(max_epochs=9)\n'
        "param_scheduler = dict(type='CosineAnnealingLR', end=9, T_max=9)"
    )
    del comparison.content['methods']['cmid']['options']
    comparison.content['pretraining'].update(options={'model': {'type': 'Network'}})
    comparison.content['backbones']['r18'] = str(comparison.folder / 'other.py')
    (comparison.folder / 'other.py').write_text(
        "model = dict(type='Network')\ntrain_cfg = dict(max_epochs=9)\n"
        "param_scheduler = [dict(type='CosineAnnealingLR', T_max=9, by_epoch=False)]"
    )
    del comparison.content['tasks']['change']
    cfg = comparison.plan()[1].steps[0].run_config.config
    assert (cfg.param_scheduler.end, cfg.param_scheduler.T_max) == (4, 4)
    comparison.config.write_text((comparison.folder / 'other.py').read_text())
    load.cache_clear()
    cfg = comparison.plan()[1].steps[0].run_config.config
    assert cfg.param_scheduler[0].T_max == 9


def test_options_of_the_features_are_flags(comparison):
    comparison.content['tasks']['features']['options'] = dict(
        train='train',
        test='test',
        bands=[3, 2, 1],
        value_range=[0, 3000.5],
        per_class=True,
        k=5,
    )
    (command,) = comparison.plan()[0].steps[0].commands
    expected = (
        f'--train {comparison.images / "train"} --test {comparison.images / "test"} '
        '--bands 3 2 1 --value-range 0 3000.5 --k 5 --per-class --seed 0 --json '
    )
    assert ' '.join(command[4:]).startswith(expected)


def test_hash_follows_settings_and_not_folders(comparison, tmp_path):
    def hashes(number=1):
        return [step.config_hash for step in comparison.plan()[number].steps]

    before = hashes()
    comparison.content['output'] = str(tmp_path / 'other')
    moved = comparison.images.rename(tmp_path / 'moved')
    comparison.content['data']['mine'] = str(moved)
    assert hashes() == before
    comparison.content['tasks']['change']['options'] = {'model.x': 1}
    changed = hashes()
    assert changed[:2] == before[:2]
    assert changed[2] != before[2]
    comparison.content['methods']['cmid']['options'] = {'model.depth': 50}
    # What was pre-trained otherwise makes other tasks.
    assert all(a != b for a, b in zip(hashes(), changed, strict=True))


def test_foreign_weights(comparison, tmp_path):
    weights = tmp_path / 'released.pth'
    method = dict(checkpoint=str(weights), trained_on='ImageNet')
    comparison.content['methods'] = dict(foreign=method)
    comparison.content['reference'] = 'foreign'
    with pytest.raises(SpecError, match=r'methods\.foreign\.checkpoint: .*released'):
        comparison.plan()
    weights.write_text('a')
    cell = comparison.plan()[0]
    assert cell.data == 'ImageNet'
    features, change = cell.steps
    assert features.commands[0][3] == str(weights)
    assert features.commands[0][-1] == '--backbone-only'
    command = change.commands[0]
    assert command[command.index('--backbone-checkpoint') + 1] == str(weights)
    before = change.config_hash
    weights.with_name('b.pth').write_text('b')
    method['checkpoint'] = str(weights.with_name('b.pth'))
    assert comparison.plan()[0].steps[1].config_hash != before


def test_data_sets_and_backbones_of_one_s_own(comparison, tmp_path):
    content = comparison.content
    content['data']['yours'] = str(tmp_path)
    content['pretraining']['data'] = {'mine': None, 'yours': {'model.width': 2}}
    content['backbones']['r50'] = str(comparison.config)
    for name in ('mine', 'yours'):
        config = tmp_path / f'r18_{name}.py'
        config.write_text(comparison.config.read_text())
    content['methods'] = {
        'both': dict(config=str(tmp_path / '{backbone}_{data}.py'), backbones=['r18']),
        'one': dict(config=str(comparison.config), data=['yours']),
    }
    content['reference'] = 'one'
    content['tasks']['change']['config'] = {'r18': str(comparison.config)}
    content['seeds'] = [0]
    cells = comparison.plan()
    assert [(cell.method, cell.backbone, cell.data) for cell in cells] == [
        ('both', 'r18', 'mine'),
        ('both', 'r18', 'yours'),
        ('one', 'r18', 'yours'),
        ('one', 'r50', 'yours'),
    ]
    configs = [cell.steps[0].run_config for cell in cells]
    assert configs[1].origin.startswith(str(tmp_path / 'r18_yours.py'))
    assert [run.config.model.width for run in configs] == [1, 2, 2, 2]
    assert [len(cell.steps) for cell in cells] == [3, 3, 3, 2]


def test_a_dense_task_names_images_and_labels_within_the_data(comparison):
    task = dict(
        data='mine',
        options=dict(
            train='[12].png',
            test='3.png',
            labels='{stem}_mask.tif',
            classes=['dark', 'bright'],
            label_map={0: 'dark', 255: 1},
            stages=[1, 2],
            head='conv',
            reduction=2,
        ),
        metrics=dict(dense_mIoU='mIoU'),
    )
    comparison.content['tasks'] = dict(pixels=task)
    for name in '123':
        write_image(comparison.images / f'{name}.png')
        write_image(comparison.images / f'{name}_mask.tif', mode='L')
    (step,) = comparison.plan()[0].steps
    (command,) = step.commands
    assert Path(command[1]).name == 'evaluate_features.py'
    expected = (
        'random --train [12].png --test 3.png --labels {stem}_mask.tif --classes dark '
        'bright --label-map 0=dark 255=1 --stages 1 2 --head conv --reduction 2 '
        f'--dense --data-root {comparison.images} --seed 0 --json {step.results}'
    )
    assert ' '.join(command[3:]) == expected
    assert step.metrics == ('dense_mIoU',)
    # The tool knows them all.
    parser = argparse.ArgumentParser()
    tool = runpy.run_path(str(ROOT / 'tools' / 'evaluate_features.py'))
    tool['COMMAND'].add_arguments(parser)
    args = parser.parse_args(command[2:])
    assert args.label_map == {'0': 'dark', '255': 1}
    before = step.config_hash
    task['options']['stages'] = [2]
    assert comparison.plan()[0].steps[0].config_hash != before
