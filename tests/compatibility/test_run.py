# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from tests.compatibility.run import count, main, make, measure, table

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_b[1]" />
<testcase classname="tests.a" name="test_b[2]"><failure>no</failure></testcase>
<testcase classname="tests.c" name="test_d"><error>no</error></testcase>
<testcase classname="tests.c" name="test_e"><skipped>no mmrotate</skipped></testcase>
<testcase classname="tests.c" name="test_f"><error message="ModuleNotFoundError: \
No module named 'mmcv._ext'">no</error></testcase>
</testsuite></testsuites>"""


def test_a_report_is_counted(tmp_path):
    report = tmp_path / 'report.xml'
    report.write_text(REPORT)
    assert count(report) == {
        'passed': 1,
        'failed': ['tests.a::test_b[2]', 'tests.c::test_d'],
        'skipped': 2,
    }


def test_a_row_tells_what_was_installed_and_what_was_run():
    versions = dict(python='3.12.1', torch='2.15.0', numpy='2.5.5', cv2=None)
    versions |= dict(mmengine='0.10.7', mmrotate=None)
    found = dict(passed=9, failed=['a::b'], skipped=2, selected=['tests/models'])
    row = table({'newest': {'versions': versions, **found}}).splitlines()[-1]
    assert row == (
        '| newest | 3.12.1 | 2.15.0 | 2.5.5 | - | mmengine 0.10.7 | models '
        '| 9 | 1 | 2 |'
    )


def test_an_environment_is_made_measured_and_removed(tmp_path, monkeypatch):
    page = tmp_path / 'page.md'
    page.write_text('<!-- rows of tests/compatibility/run.py -->\n<!-- end of rows -->')
    called = []

    def made(combination, folder, wheels):
        called.append((make.__name__, combination.name))
        folder.mkdir()

    def measured(folder, select):
        called.append((measure.__name__, folder.name))
        versions = dict.fromkeys(('python', 'torch', 'numpy', 'cv2'), '1')
        return dict(versions=versions, passed=3, failed=[], skipped=0, selected=select)

    names = main.__globals__
    monkeypatch.setitem(names, 'make', made)
    monkeypatch.setitem(names, 'measure', measured)
    monkeypatch.setitem(names, 'PAGE', page)
    monkeypatch.setitem(names, 'RESULTS', tmp_path / 'results.json')
    for name in ('newest', 'as in CI'):
        monkeypatch.setattr('sys.argv', ['run.py', name, '--folder', str(tmp_path)])
        main()
    assert called == [
        ('make', 'newest'),
        ('measure', 'newest'),
        ('make', 'as in CI'),
        ('measure', 'as-in-CI'),
    ]
    assert not (tmp_path / 'newest').exists()
    # One is measured again without losing the others.
    assert (
        '| newest | 1 |' in page.read_text() and '| as in CI | 1 |' in page.read_text()
    )
