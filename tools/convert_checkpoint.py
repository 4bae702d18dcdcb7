#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Convert a published CMID checkpoint for cmid_mm, with nothing left out."""

import argparse

from cmid_mm_cli import Command, run_tool

EPILOG = """\
The result is what configs/cmid/cmid_r50_*.py and cmid_swin-b_*.py load strictly:
student, teacher, projectors, prototypes, queue and centre. No code in SRC is run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('src', metavar='SRC', help='published file (ResNet or Swin)')
    parser.add_argument('dst', metavar='DST', help='file to write')


def main(args: argparse.Namespace) -> None:
    """Convert and say what was written."""
    from cmid_mm.checkpoints import convert_checkpoint

    meta = convert_checkpoint(args.src, args.dst)
    print(f'Wrote {args.dst}: {meta["architecture"]}')


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
