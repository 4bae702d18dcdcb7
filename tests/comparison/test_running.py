# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import csv
import subprocess

import pytest

from cmid_mm.comparison import (
    CellRunner,
    SpecError,
    check_records,
    exclusive,
    is_done,
    plan,
    write_report,
)
from cmid_mm.configs import load_config


def run(comparison, jobs=1, stop_after=None):
    spec = comparison.checked()
    cells = plan(spec, comparison.tools)
    errors = {}

    def finished(cell, error):
        errors[cell.method, cell.seed] = error
        if stop_after is not None and len(errors) == stop_after:
            raise KeyboardInterrupt

    with exclusive(spec.output) as lock:
        check_records(cells)
        missing = [cell for cell in cells if not is_done(cell)]
        try:
            failed = CellRunner(missing, jobs, lock).run(finished)
            assert set(failed.values()) == {e for e in errors.values() if e}
        finally:
            write_report(spec, cells)
    return errors


@pytest.mark.parametrize('jobs', [1, 3])
def test_from_spec_to_table(comparison, jobs):
    assert set(run(comparison, jobs).values()) == {None}
    output = comparison.folder / 'out'
    report = (output / 'report.md').read_text()
    # 40, 41, 42 and 50, 51, 57: means and sample deviations by hand.
    assert '| random | r18 | - |  | 41.0 ± 1.0 | 50.0 ± 0.0 |' in report
    assert '| CMID | r18 | mine | 0.30 | 52.7 ± 3.8 | 75.0 ± 0.0 |' in report
    # Paired: -10, -10, -15.
    assert (
        '| random | r18 | - | -11.7 ± 2.9 (0 of 3) | -25.0 ± 0.0 (0 of 3) |' in report
    )
    assert '6 of 6 cells are done' in report
    record = comparison.record('mine/r18/cmid/seed-1')
    assert f'| pretraining | {record["pretraining"]["config_hash"]} |' in report

    rows = list(csv.DictReader((output / 'results.csv').read_text().splitlines()))
    assert len(rows) == 12
    row = next(r for r in rows if (r['method'], r['task']) == ('cmid', 'change'))
    assert float(row['value']) == 0.75
    assert 'train.py' in row['commands']
    # The task began with what the pre-training left.
    weights = (output / 'mine/r18/cmid/seed-0/change/epoch_1.pth').read_text()
    assert weights.startswith(
        f'random | # {comparison.config} with {{"randomness.seed": 0, '
    )
    assert (output / 'results.png').read_bytes()[:4] == b'\x89PNG'
    subprocess.run(['bash', '-n', output / 'commands.sh'], check=True)
    assert (output / 'commands.sh').read_text().count('train.py') == 9


def test_going_on_after_an_interruption(comparison):
    with pytest.raises(KeyboardInterrupt):
        run(comparison, stop_after=2)
    assert len(comparison.told) < 9
    report = (comparison.folder / 'out/report.md').read_text()
    assert '| 50.0 [1] | 75.0 [1] |' in report
    run(comparison)
    assert len(set(comparison.told)) == 9
    done = [folder for folder in comparison.told if 'cmid/seed-0' in folder]
    assert len(done) == 2  # nothing that was done is done again
    report = (comparison.folder / 'out/report.md').read_text()
    assert '6 of 6 cells are done' in report


def test_a_failing_cell_does_not_stop_the_others(comparison):
    (comparison.images / 'broken').touch()
    errors = run(comparison)
    assert [errors['random', seed] for seed in (0, 1, 2)] == [None] * 3
    assert errors['cmid', 0].startswith(
        'pretraining failed: error: image x.png is truncated'
    )
    assert 'pretraining.log' in errors['cmid', 0]
    (comparison.images / 'broken').unlink()
    assert set(run(comparison)) == {('cmid', 0), ('cmid', 1), ('cmid', 2)}


def test_results_of_other_settings_are_not_mixed(comparison):
    run(comparison)
    comparison.content['methods']['cmid']['options'] = {'model.depth': 50}
    with pytest.raises(SpecError, match=r'other settings: .*cmid/seed-0 .*cmid/seed-2'):
        run(comparison)


def test_another_task_is_added_to_what_is_there(comparison):
    run(comparison)
    before = len(comparison.told)
    comparison.content['tasks']['more'] = comparison.content['tasks']['change']
    run(comparison)
    assert len(comparison.told) == before + 6
    assert (
        '| 50.0 ± 0.0 | 50.0 ± 0.0 |'
        in (comparison.folder / 'out/report.md').read_text()
    )


def test_one_comparison_a_folder(comparison, tmp_path):
    with exclusive(tmp_path / 'x') as lock:
        child = subprocess.Popen(['sleep', '60'], pass_fds=(lock,))
    try:
        # A process that outlived its comparison holds the folder.
        with pytest.raises(SpecError, match='in use'), exclusive(tmp_path / 'x'):
            pass
    finally:
        child.kill()
        child.wait()
    with exclusive(tmp_path / 'x'):
        pass


@pytest.fixture
def silent_metric(comparison):
    """A task whose evaluator does not say which scores it gives."""
    config = comparison.folder / 'other.py'
    text = comparison.config.read_text().replace('ChangeDetectionMetric', 'Other')
    config.write_text(text)
    comparison.content['tasks']['change']['config'] = str(config)
    comparison.content['tasks']['change']['metrics'] = {'F2': 'F2'}
    comparison.content['tasks']['last'] = {
        **comparison.content['tasks']['change'],
        'metrics': {'F1': 'F1'},
    }
    comparison.content['seeds'] = [0]


@pytest.mark.usefixtures('silent_metric')
def test_metric_that_the_task_lacks_costs_that_column_only(comparison):
    errors = run(comparison)
    assert set(errors.values()) == {
        'change gives no number F2; it has F1: correct metrics of the task, '
        'nothing is run again'
    }
    report = (comparison.folder / 'out/report.md').read_text()
    assert '| CMID | r18 | mine | 0.30 | 50.0 |  | 75.0 |' in report
    assert '0 of 2 cells are done' in report
    before = comparison.told
    assert set(run(comparison)) == set(errors)
    comparison.content['tasks']['change']['metrics'] = {'F1': 'F1'}
    assert run(comparison) == {}  # nothing was left to run
    assert comparison.told == before
    report = (comparison.folder / 'out/report.md').read_text()
    assert '| CMID | r18 | mine | 0.30 | 50.0 | 75.0 | 75.0 |' in report


def test_a_test_without_results_ends_its_cell_only(comparison):
    (comparison.images / 'mute').touch()
    comparison.content['seeds'] = [0]
    errors = run(comparison)
    assert all('change.json' in error for error in errors.values())
    assert len(errors) == 2
    (comparison.images / 'mute').unlink()
    assert set(run(comparison).values()) == {None}


def test_options_of_any_kind_arrive_as_they_are(comparison):
    options = {
        'model.text': 'a,b [c] {d}, \'e\' "f" # g',
        'model.part': {
            'type': 'X',
            'sizes': [[1, 2.5], [None, True]],
            'e f': {'g': ''},
        },
        'model.rate': 1e-3,
        'model.depth': 34,
        'model.whole': {'_delete_': True, 'kept': 1},
    }
    comparison.config.write_text(
        comparison.config.read_text().replace('depth=18', 'depth=18, whole=dict(x=2)')
    )
    comparison.content['methods'] = dict(
        cmid=dict(config=str(comparison.config), options=options)
    )
    comparison.content['seeds'] = [0, 1]
    run(comparison)
    for seed in (0, 1):
        cfg = load_config(
            str(comparison.folder / f'out/mine/r18/cmid/seed-{seed}/pretraining.py')
        )
        assert cfg.randomness.seed == seed
        assert cfg.model.text == options['model.text']
        assert cfg.model.part.to_dict() == options['model.part']
        assert cfg.model.rate == 0.001
        assert cfg.model.whole.to_dict() == {'kept': 1}


def test_results_of_other_settings_are_not_shown(comparison):
    comparison.content['seeds'] = [0]
    run(comparison)
    comparison.content['methods']['cmid']['options'] = {'model.depth': 50}
    spec = comparison.checked()
    write_report(spec, plan(spec, comparison.tools))
    report = (comparison.folder / 'out/report.md').read_text()
    assert '| CMID | r18 | mine |  |  |  |' in report
    assert '| random | r18 | - |  | 40.0 | 50.0 |' in report
    (comparison.folder / 'out/mine/r18/cmid/seed-0/record.json').write_text('{')
    write_report(spec, plan(spec, comparison.tools))
    with pytest.raises(SpecError, match=r'record\.json is damaged'):
        check_records(plan(spec, comparison.tools))


def test_published_figures_stand_beside_ours(comparison):
    comparison.content['published'] = [
        dict(
            method='cmid',
            backbone='r18',
            data='mine',
            values={'change/F1': 96.95},
        )
    ]
    comparison.content['source'] = 'a paper'
    run(comparison)
    report = (comparison.folder / 'out/report.md').read_text()
    assert '| 75.0 ± 0.0 (96.95) |' in report
    assert 'published (a paper)' in report
