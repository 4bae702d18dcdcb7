# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Draw the training curves of one or more runs."""

import argparse
import sys

from cmid_mm.visualization.curves import plot_training_curves


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python tools/plot_logs.py work_dirs/cmid_r18_demo --out a.png',
    )
    parser.add_argument(
        'logs',
        nargs='+',
        help='work directories (their newest log is read) or scalars.json files',
    )
    parser.add_argument(
        '--out', default='curves.png', help='picture to write (default: %(default)s)'
    )
    parser.add_argument(
        '--names',
        nargs='+',
        metavar='NAME',
        help='scalars to draw, such as loss knn_top1 (default: all)',
    )
    return parser.parse_args()


def main() -> None:
    """Draw and say where the picture is."""
    args = parse_args()
    try:
        plot_training_curves(args.logs, args.out, args.names)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
