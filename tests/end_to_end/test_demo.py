# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import re
import runpy
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / 'tools' / 'demo.py'


@pytest.mark.slow
def test_pretraining_beats_the_random_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['demo.py', str(tmp_path / 'demo')])
    runpy.run_path(str(DEMO), run_name='__main__')
    text = capsys.readouterr().out
    rows = re.findall(r'encoder +([\d.]+) % +([\d.]+) %', text)
    (knn_before, linear_before), (knn, linear) = (map(float, row) for row in rows)
    assert knn > knn_before + 2
    assert linear > linear_before + 4
    picture = Path(re.search(r'reconstructs: (.+)', text).group(1))
    assert picture.is_file()
