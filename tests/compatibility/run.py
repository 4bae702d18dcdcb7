# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Run the tests in several environments; write the table of docs/compatibility.md.

    python tests/compatibility/run.py                        all, an hour each
    python tests/compatibility/run.py newest --select tests/models
    python tests/compatibility/run.py --table                only write the table

Each environment is made anew in a folder of its own (6 GB with a CUDA build of torch),
and removed before the next. The Pythons must be on the PATH as python3.10 and so on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.compatibility.combinations import (  # noqa: E402
    COMBINATIONS,
    FORKS,
    REPLACED,
    Combination,
)
from tests.measured_pages import put_between  # noqa: E402

PAGE = ROOT / 'docs' / 'compatibility.md'
#: How a test fails for want of mmcv's compiled operators.
NO_OPERATORS = 'mmcv._ext'
RESULTS = Path(__file__).with_name('results.json')
START, END = '<!-- rows of tests/compatibility/run.py -->', '<!-- end of rows -->'
# As imported: the distributions have several names.
TOLD = """
import importlib, json, platform
told = {'python': platform.python_version()}
for name in ('torch', 'numpy', 'cv2', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg',
             'mmdet', 'mmrotate'):
    try:
        told[name] = importlib.import_module(name).__version__
    except Exception:
        told[name] = None
print(json.dumps(told))
"""


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [combination.name for combination in COMBINATIONS]
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(names))
    parser.add_argument(
        '--folder', type=Path, default=ROOT / 'work_dirs', help='for environments'
    )
    parser.add_argument(
        '--wheels', type=Path, help='folder with a wheel of mmcv with its operators'
    )
    parser.add_argument(
        '--keep', action='store_true', help='keep environments, and take those kept'
    )
    parser.add_argument(
        '--select', nargs='+', default=[], metavar='PATH', help='run only these tests'
    )
    parser.add_argument('--table', action='store_true', help='only write the table')
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f'{", ".join(unknown)}: expected {", ".join(names)}')
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for combination in COMBINATIONS if not args.table else ():
        if args.names and combination.name not in args.names:
            continue
        folder = args.folder / combination.name.replace(' ', '-')
        if not (args.keep and folder.exists()):
            make(combination, folder, args.wheels)
        results[combination.name] = measure(folder, args.select)
        RESULTS.write_text(json.dumps(results, indent=1) + '\n')
        if not args.keep:
            shutil.rmtree(folder)
    put_between(PAGE, START, END, table(results))


def make(combination: Combination, folder: Path, wheels: Path | None) -> None:
    """Make an environment."""
    python = shutil.which(f'python{combination.python}')
    if python is None:
        sys.exit(f'error: python{combination.python} is not on the PATH')
    subprocess.run([python, '-m', 'venv', '--clear', folder], check=True)

    def install(*arguments: str) -> None:
        # What pip is told elsewhere, such as a cap on a package, stays out.
        variables = {**os.environ, 'PIP_CONFIG_FILE': os.devnull}
        variables.pop('PIP_CONSTRAINT', None)
        command = [folder / 'bin' / 'python', '-m', 'pip', 'install', '-q', *arguments]
        subprocess.run(command, check=True, cwd=ROOT, env=variables)

    def remove(*names: str) -> None:
        command = [folder / 'bin' / 'python', '-m', 'pip', 'uninstall', '-q', '-y']
        subprocess.run([*command, *names], check=True)

    pins = combination.pins
    install('--upgrade', 'pip')
    install(*combination.torch, *pins, '-r', 'requirements/build.txt')
    if combination.fits and wheels is not None:
        install('--no-index', '--no-deps', '--find-links', str(wheels), 'onedl-mmcv')
    elif not combination.fits:
        # Built apart from torch it has no operators, and takes seconds.
        install('--no-deps', 'onedl-mmcv')
    lists = (f'-rrequirements/{name}.txt' for name in ('runtime', 'docs', 'tests'))
    install('--no-build-isolation', *FORKS, *lists, *combination.torch, *pins)
    if combination.upstream:
        # Their operators, which are those of the fork, stay.
        (mmcv,) = folder.glob('lib/python*/site-packages/mmcv')
        operators = {path: path.read_bytes() for path in mmcv.glob('_ext.*.so')}
        remove(*REPLACED)
        install('--no-deps', '--no-build-isolation', *combination.upstream)
        for path, content in operators.items():
            path.write_bytes(content)
    remove('opencv-python', 'opencv-python-headless')
    headless = [pin for pin in pins if pin.startswith('opencv')]
    install('--no-deps', *(headless or ['opencv-python-headless<4.13']))


def measure(folder: Path, select: Sequence[str]) -> dict:
    """Run the tests in an environment; what it holds, and how they ended."""
    python, report = folder / 'bin' / 'python', folder / 'report.xml'
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    told = subprocess.run(
        [python, '-W', 'ignore', '-c', TOLD],
        check=True,
        capture_output=True,
        text=True,
        env=variables,
    )
    options = ['-n', '2', '--dist', 'worksteal', f'--junitxml={report}']
    subprocess.run([python, '-m', 'pytest', *options, *select], cwd=ROOT, env=variables)
    return {
        'versions': json.loads(told.stdout.splitlines()[-1]),
        'selected': list(select),
        **count(report),
    }


def count(report: Path) -> dict:
    """Tests of a report by how they ended, and the names of those that failed.

    What failed for want of mmcv's compiled operators counts as skipped.
    """
    cases = list(ElementTree.parse(report).iter('testcase'))
    failed, skipped = [], 0
    for case in cases:
        faults = [*case.findall('failure'), *case.findall('error')]
        told = ''.join(f'{fault.get("message")}{fault.text}' for fault in faults)
        if NO_OPERATORS in told or case.find('skipped') is not None:
            skipped += 1
        elif faults:
            failed.append(f'{case.get("classname")}::{case.get("name")}')
    return {
        'passed': len(cases) - len(failed) - skipped,
        'failed': failed,
        'skipped': skipped,
    }


def table(results: dict) -> str:
    """Results in Markdown."""
    lines = [
        '| environment | Python | PyTorch | NumPy | OpenCV | OpenMMLab packages '
        '| tests | passed | failed | skipped |',
        '|---|---|---|---|---|---|---|---:|---:|---:|',
    ]
    for name, found in results.items():
        versions = dict(found['versions'])
        named = [
            versions.pop(key) or '-' for key in ('python', 'torch', 'numpy', 'cv2')
        ]
        tests = ', '.join(path.removeprefix('tests/') for path in found['selected'])
        packages = ', '.join(f'{key} {v}' for key, v in versions.items() if v)
        lines.append(
            f'| {name} | {" | ".join(named)} | {packages} | '
            f'{tests or "all"} | {found["passed"]} | '
            f'{len(found["failed"])} | {found["skipped"]} |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
