# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Installation; ships configs and tools in the package as OpenMMLab packages do."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """Copies configs, their index and tools to ``cmid_mm/.mim``, where mim looks."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, 'cmid_mm', '.mim')
        for folder in ('configs', 'tools'):
            shutil.copytree(
                ROOT / folder,
                target / folder,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns('__pycache__'),
            )
        shutil.copy2(ROOT / 'model-index.yml', target)


def requirements(name: str) -> list[str]:
    """Read a requirements file."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


versions = (ROOT / 'cmid_mm' / 'dependencies.py').read_text()
setup(
    name='cmid_mm',
    version=re.search(r"__version__ = '(.+)'", versions).group(1),
    description='Remote-sensing self-supervised pre-training for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['cmid_mm', 'cmid_mm.*', 'cmid_mm_cli']),
    package_data={'cmid_mm': ['py.typed', 'preparation/splits/*.txt']},
    install_requires=requirements('runtime'),
    extras_require={
        'mm': requirements('mminstall'),
        'tasks': requirements('optional'),
        'rasters': requirements('rasters'),
        'onnx': requirements('onnx'),
        'docs': requirements('docs'),
        'figures': requirements('figures'),
        'tests': requirements('tests'),
        'completion': ['argcomplete'],
    },
    entry_points={'console_scripts': ['cmid-mm = cmid_mm_cli:main']},
    cmdclass={'build_py': BuildWithConfigs},
)
