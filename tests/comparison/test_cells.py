# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from cmid_mm.comparison import SpecError, plan, read_spec


def planned(comparison):
    return plan(read_spec(comparison.write()), comparison.tools)


def test_cells_run_seed_by_seed(comparison):
    cells = planned(comparison)
    assert [(cell.method, cell.seed) for cell in cells] == [
        (method, seed) for seed in (0, 1, 2) for method in ('random', 'cmid')
    ]
    steps = [step.name for step in cells[1].steps]
    assert steps == ['pretraining', 'features', 'change']
    assert [step.name for step in cells[0].steps] == steps[1:]


def test_commands_say_everything(comparison):
    (train,) = planned(comparison)[3].steps[0].commands
    options = train[train.index('--cfg-options') + 1 :]
    # The schedules end with the training, the warm-up where it ended before.
    assert options == [
        'randomness.seed=1',
        'train_cfg.max_epochs=4',
        'param_scheduler.1.end=4',
        'param_scheduler.1.T_max=3',
        'model.width=1',
        'model.depth=34',
    ]
    assert train[train.index('--data-root') + 1] == str(comparison.images)
    assert '--resume' in train
    (features,) = planned(comparison)[3].steps[1].commands
    # Weights of a network that options have changed need the same options.
    assert features[-3:] == ['--cfg-options', 'model.width=1', 'model.depth=34']


def test_hash_follows_settings_and_not_folders(comparison, tmp_path):
    def hashes(number=1):
        return [step.config_hash for step in planned(comparison)[number].steps]

    before = hashes()
    comparison.content['output'] = str(tmp_path / 'other')
    comparison.content['data']['mine'] = str(tmp_path)
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
    with pytest.raises(FileNotFoundError, match=r'method foreign: .*released\.pth'):
        read_spec(comparison.write()).check_inputs()
    weights.write_text('a')
    cell = planned(comparison)[0]
    assert cell.data == 'ImageNet'
    features, change = cell.steps
    assert features.commands[0][3] == str(weights)
    assert features.commands[0][-1] == '--backbone-only'
    command = change.commands[0]
    assert command[command.index('--backbone-checkpoint') + 1] == str(weights)
    before = change.config_hash
    weights.with_name('b.pth').write_text('b')
    method['checkpoint'] = str(weights.with_name('b.pth'))
    assert planned(comparison)[0].steps[1].config_hash != before


def test_length_in_epochs_needs_a_config_that_counts_them(comparison):
    comparison.config.write_text('train_cfg = dict(max_iters=10)')
    with pytest.raises(SpecError, match='counts iterations'):
        planned(comparison)


def test_unknown_config_keys_are_refused_before_anything_runs(comparison):
    comparison.content['methods']['cmid']['options'] = {'modle.depth': 34}
    with pytest.raises(SpecError, match=r'cmid_r18\.py: .*modle'):
        planned(comparison)


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
    cells = planned(comparison)
    assert [(cell.method, cell.backbone, cell.data) for cell in cells] == [
        ('both', 'r18', 'mine'),
        ('both', 'r18', 'yours'),
        ('one', 'r18', 'yours'),
        ('one', 'r50', 'yours'),
    ]
    trainings = [cell.steps[0].commands[0] for cell in cells]
    assert trainings[1][2].endswith('r18_yours.py')
    assert 'model.width=2' in trainings[1]
    assert 'model.width=1' in trainings[0]
    assert [len(cell.steps) for cell in cells] == [3, 3, 3, 2]
