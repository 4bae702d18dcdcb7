# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / 'benchmarks' / 'gpu.sh'


@pytest.mark.slow
def test_the_measurement_of_a_gpu_runs_small_on_a_cpu(tmp_path):
    out = tmp_path / 'out.json'
    settings = dict(SMOKE='1', PYTHON=sys.executable, OMP_NUM_THREADS='1')
    subprocess.run([SCRIPT, out], env=os.environ | settings, check=True)
    (found,) = json.loads(out.read_text())
    assert (found['backbone'], found['batch_size']) == ('cmid_r18_demo', 2)
    for name in ('ratio', 'compiled_ratio', 'fed_share', 'compilation_s'):
        assert found[name] > 0, name
    assert found['fed'] == 'compiled'
    assert found['memory_ratio'] > 0 or sys.platform != 'linux'
    parts = found['parts']
    bare = {name for name, seconds in parts.items() if 'limit_s' in seconds}
    assert bare == {'student forward', 'backward', 'teacher forward'}
    heads = {'reconstruction', 'contrastive', 'assignment'}
    assert {f'{name} head, forward' for name in heads} < parts.keys()
    spent = sum(seconds['step_s'] for seconds in parts.values())
    assert 0 <= parts['other']['step_s'] < spent


@pytest.mark.slow
def test_what_was_measured_before_a_part_failed_is_kept(tmp_path):
    out = tmp_path / 'out.json'
    config = SCRIPT.parents[1] / 'configs' / 'cmid' / 'cmid_r18_demo.py'
    command = [sys.executable, SCRIPT.with_name('train_step.py'), '--config', config]
    command += ['--batch-size', '2', '--image-size', '64', '--repeats', '1']
    command += ['--device', 'cpu', '--compile', 'no_such_backend', '--json', out]
    settings = dict(PYTHONPATH=str(SCRIPT.parents[1]), OMP_NUM_THREADS='1')
    ended = subprocess.run(command, env=os.environ | settings, check=False)
    found = json.loads(out.read_text())
    assert ended.returncode != 0
    assert found['ratio'] > 0
    assert 'compiled_ratio' not in found
