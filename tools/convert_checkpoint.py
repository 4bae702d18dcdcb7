#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Convert a published CMID checkpoint for cmid_mm, with nothing left out."""

import argparse

from cmid_mm.checkpoints import convert_checkpoint
from cmid_mm.cli import user_errors


@user_errors
def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The result is what configs/cmid/cmid_r50_*.py and cmid_swin-b_*.py '
        'load strictly: student, teacher, projectors, prototypes, queue and centre. '
        'No code in SRC is run.',
    )
    parser.add_argument('src', metavar='SRC', help='published file (ResNet or Swin)')
    parser.add_argument('dst', metavar='DST', help='file to write')
    args = parser.parse_args()
    meta = convert_checkpoint(args.src, args.dst)
    print(f'Wrote {args.dst}: {meta["architecture"]}')


if __name__ == '__main__':
    main()
