# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from tests.faults.rows import Row, replace_rows


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--reliability',
        type=Path,
        metavar='PAGE',
        help='write the table of faults into this page if all were survived',
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Tally(), 'tally of faults')


class Tally:
    """Counts how often each fault was tried, and writes the table at the end."""

    def __init__(self) -> None:
        self.tries: dict[Row, int] = {}
        self.rows: dict[str, Row] = {}
        self.unproven: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if mark := item.get_closest_marker('faults'):
                self.rows[item.nodeid] = mark.args[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self.rows:
            return
        if report.when == 'call' and report.passed:
            tries = dict(report.user_properties).get('tries', 1)
            row = self.rows[report.nodeid]
            self.tries[row] = self.tries.get(row, 0) + int(str(tries))
        elif not report.passed:
            self.unproven.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        page = session.config.getoption('--reliability')
        if page and exitstatus == 0 and not self.unproven:
            replace_rows(page, self.tries)
