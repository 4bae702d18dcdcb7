# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Folders that a repeated command goes on with."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cmid_mm.being_read import being_read
from cmid_mm.files import write_bytes
from cmid_mm.restartable import (
    Job,
    OtherSettingsError,
    RestartableFolder,
    run_jobs,
)


def test_a_folder_is_new_then_begun_then_complete(tmp_path):
    folder = RestartableFolder(tmp_path / 'out', {'size': (2, 3)})
    assert not folder.is_complete()
    folder.begin()
    folder.begin()
    assert not folder.is_complete()
    folder.finish()
    assert folder.is_complete()
    assert [path.name for path in folder.path.iterdir()] == ['prepared.json']
    assert json.loads((folder.path / 'prepared.json').read_text()) == {'size': [2, 3]}
    with pytest.raises(OtherSettingsError, match=r'made with .*\[2, 3\].* not with'):
        RestartableFolder(folder.path, {'size': (2, 4)}).begin()


def test_a_folder_of_other_things_is_refused_and_a_link_is_followed(tmp_path):
    real = tmp_path / 'disk'
    real.mkdir()
    link = tmp_path / 'out'
    link.symlink_to(real)
    folder = RestartableFolder(link, {})
    folder.begin()
    folder.finish()
    assert (real / 'prepared.json').exists()
    foreign = tmp_path / 'foreign'
    write_bytes(foreign / 'mine.txt', b'precious')
    with pytest.raises(FileExistsError, match='foreign is not empty'):
        RestartableFolder(foreign, {}).begin()


def test_only_what_is_not_done_is_done(tmp_path):
    paths = [tmp_path / f'{i}.txt' for i in range(4)]
    paths[1].write_bytes(b'kept')
    jobs = [Job((path,), partial(write_bytes, path, b'new')) for path in paths]
    run_jobs(jobs, progress=False)
    assert [path.read_bytes() for path in paths] == [b'new', b'kept', b'new', b'new']


_AFTER_THREADS = """
import sys
from functools import partial
from pathlib import Path
import cv2
import numpy as np
from cmid_mm.being_read import being_read
from cmid_mm.files import write_bytes
from cmid_mm.restartable import Job, run_jobs
cv2.setNumThreads(4)
for _ in range(20):
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 0)
paths = [Path(sys.argv[1]) / f"{i}.txt" for i in range(4)]
run_jobs([Job((p,), partial(write_bytes, p, b"x")) for p in paths], 2, progress=False)
assert cv2.getNumThreads() == 4 and all(p.exists() for p in paths)
"""


def test_processes_start_where_opencv_has_threads(tmp_path: Path) -> None:
    """Its threads are not in a forked process, which waited for them for ever."""
    subprocess.run(
        [sys.executable, '-c', _AFTER_THREADS, str(tmp_path)], timeout=120, check=True
    )


def die_while_reading(path: Path) -> None:
    with being_read(path):
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / 'x.png'
    jobs = [Job((path,), partial(die_while_reading, path))] * 2
    with pytest.raises(ChildProcessError, match=r'x\.png.*out of memory'):
        run_jobs(jobs, 2, progress=False)
