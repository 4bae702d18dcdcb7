# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import tempfile
from pathlib import Path

import pytest

from tests.measured_pages import put_between
from tests.soak.gauge import BOUNDS, Gauge, Rise

START, END = '<!-- figures of make soak -->', '<!-- end of figures -->'


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--soak-steps', type=int, default=20_000, help='training steps')
    parser.addoption('--soak-images', type=int, default=10_000, help='images predicted')
    parser.addoption(
        '--soak-page',
        type=Path,
        metavar='PAGE',
        help='write the figures into this page, those that grew in bold',
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Figures(), 'figures of soak')


class Figures:
    """Collects the figures of all runs, and writes them at the end."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Rise]] = {}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        page = session.config.getoption('--soak-page')
        if page and self.runs:
            put_between(page, START, END, table(self.runs))


def table(runs: dict[str, list[Rise]]) -> str:
    """Figures in Markdown."""
    lines = ['| run | held | at half | at the end | rise | bound |']
    lines.append('|---|---|---:|---:|---:|---:|')
    for run, rises in runs.items():
        for found in rises:
            rise = f'{found.rise:+.2f}' if found.flat else f'**{found.rise:+.2f}**'
            lines.append(
                f'| {run} | {found.quantity} | {found.begin:,.0f} | {found.end:,.0f} | '
                f'{rise} | {BOUNDS[found.quantity]} |'
            )
    return '\n'.join(lines)


@pytest.fixture
def gauge(tmp_path, monkeypatch):
    """A gauge; the run keeps its checkpoints in ``run``, and has a ``tmp`` alone."""
    run, temporary = tmp_path / 'run', tmp_path / 'tmp'
    run.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
    monkeypatch.setenv('TMPDIR', str(temporary))
    return Gauge(run, temporary)


@pytest.fixture
def assert_flat(gauge, request):
    """Assert that nothing has grown, and keep the figures for the page."""

    def check(run: str) -> None:
        rises = gauge.rises()
        request.config.pluginmanager.get_plugin('figures of soak').runs[run] = rises
        print(table({run: rises}))
        growing = [found for found in rises if not found.flat]
        assert not growing, table({run: growing})

    return check
