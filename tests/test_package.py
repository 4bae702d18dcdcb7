# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
import mmengine
import pytest
from mmengine.logging import print_log

import cmid_mm


def test_dependencies_are_checked_by_name_and_version():
    cmid_mm.check_dependencies(cmid_mm.MINIMUM_VERSIONS)
    advice = r"needs mmnothing>=1.0; pip install 'cmid_mm\[mm\]' .*mminstall.txt"
    with pytest.raises(ImportError, match=advice):
        cmid_mm.check_dependencies({'mmnothing': '1.0'})
    too_new = rf'needs mmengine>=99.*found mmengine {mmengine.__version__}'
    with pytest.raises(ImportError, match=too_new):
        cmid_mm.check_dependencies({'mmengine': '99.0'})


def test_notices_of_the_packages_are_kept_back(capsys):
    with cmid_mm.dependencies.without_notices():
        print_log('Could not import OneDL. Skipping OneDL datasets.')
        print_log('something else')
    print_log('Could not import OneDL')
    assert capsys.readouterr().out == 'something else\nCould not import OneDL\n'
