# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.runner.checkpoint import CheckpointLoader

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def run(monkeypatch):
    """Run a tool in this process; returns what it exits with, None for success."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))

    def run_tool(tool: str, *args: object) -> str | int | None:
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        try:
            runpy.run_path(str(TOOLS / tool), run_name='__main__')
        except SystemExit as stop:
            return stop.code
        return None

    return run_tool
