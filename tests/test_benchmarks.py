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
