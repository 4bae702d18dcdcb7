# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Names of files never become a part of what a shell reads."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    'system',
    'popen',
    'getoutput',
    'getstatusoutput',
    'create_subprocess_shell',
}
HOSTILE = ['$(touch ran)', '`touch ran`', 'a b', '"; touch ran; "', "'", '*', 'a\nb']


def test_no_code_calls_a_shell():
    calls = []
    for folder in ('cmid_mm', 'cmid_mm_cli', 'tools', 'benchmarks'):
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, 'attr', getattr(node.func, 'id', None))
                if name in FORBIDDEN or any(
                    key.arg == 'shell' for key in node.keywords
                ):
                    calls.append(f'{path}:{node.lineno}')
    assert calls == []


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_scripts_hand_names_on_as_they_are(script, tmp_path):
    for name in ('python', 'srun'):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$ARGUMENTS"\n')
        program.chmod(0o755)
    # Slurm runs what it is given later.
    job = tmp_path / 'sbatch'
    job.write_text('#!/bin/sh\nSLURM_JOB_ID=1 exec bash -s\n')
    job.chmod(0o755)
    given = tmp_path / 'arguments'
    paths = f'{tmp_path}:{os.environ["PATH"]}'
    subprocess.run(
        [str(ROOT / 'tools' / script), 'first', 'second', '3', *HOSTILE],
        env={'PATH': paths, 'ARGUMENTS': str(given)},
        cwd=tmp_path,
        check=True,
    )
    assert given.read_text().split('\0')[:-1][-len(HOSTILE) :] == HOSTILE
    assert not (tmp_path / 'ran').exists()
