# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Seconds until each command has printed its help, in a process of its own.

python benchmarks/command_help.py --json result.json
"""

import argparse
import statistics
import subprocess
import sys
import time

from reporting import add_json, write

from cmid_mm_cli import load_commands


def seconds_of(*arguments: str, repeats: int) -> float:
    """Median time of a command."""
    command = [sys.executable, '-m', 'cmid_mm_cli', *arguments]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--repeats', type=int, default=5)
    add_json(parser)
    args = parser.parse_args()
    seconds = {'cmid-mm': seconds_of('-h', repeats=args.repeats)}
    for name in load_commands():
        seconds[name] = seconds_of(name, '-h', repeats=args.repeats)
    for name, value in seconds.items():
        print(f'{name:<20}{value:6.3f} s')
    write(seconds, args.json)


if __name__ == '__main__':
    main()
