# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path
from typing import Any

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its row, which comes with its report from other processes."""
    for place, item in enumerate(items):
        if mark := item.get_closest_marker('faults'):
            item.user_properties.append(('row', [place, *mark.args[0]]))


class Tally:
    """Counts how often each fault was tried, and writes the table at the end."""

    def __init__(self) -> None:
        self.tries: dict[Row, int] = {}
        self.places: dict[Row, int] = {}
        self.unproven: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties: dict[str, Any] = dict(report.user_properties)
        if 'row' not in properties:
            return
        place, *texts = properties['row']
        if report.when == 'call' and report.passed:
            row = Row(*texts)
            self.tries[row] = self.tries.get(row, 0) + properties.get('tries', 1)
            self.places[row] = min(place, self.places.get(row, place))
        elif not report.passed:
            self.unproven.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        page = session.config.getoption('--reliability')
        # One of several processes (pytest-xdist) has only a part of the tests.
        is_whole = not hasattr(session.config, 'workerinput')
        if page and is_whole and exitstatus == 0 and not self.unproven:
            rows = sorted(self.tries, key=self.places.__getitem__)
            replace_rows(page, {row: self.tries[row] for row in rows})
