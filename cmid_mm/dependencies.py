# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Which versions of other packages are needed."""

import importlib

__version__ = '0.1.0'

#: Oldest versions with everything that is used here.
MINIMUM_VERSIONS = {'mmengine': '0.8.3', 'mmcv': '2.0.0', 'mmpretrain': '1.0.0'}


def check_dependencies(minimum_versions: dict[str, str]) -> None:
    """Check that packages are installed in sufficient versions.

    Args:
        minimum_versions (dict[str, str]): Oldest version by name of the package.

    Raises:
        ImportError: If one is missing or too old; says what to install.
    """
    for name, minimum in minimum_versions.items():
        advice = (
            f'cmid_mm needs {name}>={minimum}; the tested versions are those of '
            'requirements/mminstall.txt (pip install -r requirements/mminstall.txt)'
        )
        try:
            found = importlib.import_module(name).__version__
        except ImportError as error:
            raise ImportError(f'{advice}: {error}') from error
        from mmengine.utils import digit_version

        if digit_version(found) < digit_version(minimum):
            raise ImportError(f'{advice}; found {name} {found}')
