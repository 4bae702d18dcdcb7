# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import os

import pytest
from mmengine.fileio import get_file_backend

from cmid_mm.engine import AtomicLocalBackend


def test_it_is_found_by_name():
    backend = get_file_backend(backend_args=dict(backend='atomic_local'))
    assert isinstance(backend, AtomicLocalBackend)


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    backend, file = AtomicLocalBackend(), tmp_path / 'sub' / 'epoch_1.pth'
    backend.put(b'old', file)
    assert file.read_bytes() == b'old'

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='disk full'):
        backend.put(b'new and longer', file)
    assert file.read_bytes() == b'old'
    assert os.listdir(file.parent) == ['epoch_1.pth']
