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
    read_spec,
    write_report,
)


def run(comparison, jobs=1, stop_after=None):
    spec = read_spec(comparison.write())
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
            CellRunner(missing, jobs, lock).run(finished)
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
    assert weights.startswith(f'random | {comparison.config} randomness.seed=0')
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
    with pytest.raises(SpecError, match=r'cmid/seed-0 was run with other settings'):
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


def test_metric_that_the_task_lacks(comparison):
    comparison.content['tasks']['features']['metrics'] = {'knn': 'kNN'}
    with pytest.raises(KeyError, match="has no metric 'knn'; it has .'knn_top1'"):
        run(comparison)


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
