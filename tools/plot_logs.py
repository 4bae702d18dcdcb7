# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Draw the training curves of one or more runs."""

import argparse

from cmid_mm_cli import Command, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'logs',
        nargs='+',
        help='work directories (a resumed run is one curve) or scalars.json files',
    )
    parser.add_argument(
        '--out',
        default='curves.png',
        help='png, svg, pdf, ... (default: %(default)s)',
    )
    parser.add_argument(
        '--names',
        nargs='+',
        metavar='NAME',
        help='scalars to draw, such as loss knn_top1 (default: all)',
    )


def main(args: argparse.Namespace) -> None:
    """Draw and say where the picture is."""
    from cmid_mm.files import check_writable
    from cmid_mm.visualization.curves import plot_training_curves

    check_writable(args.out, '--out')
    plot_training_curves(args.logs, args.out, args.names)
    print(f'wrote {args.out}')


COMMAND = Command(
    __doc__,
    add_arguments,
    main,
    'example: %(prog)s work_dirs/cmid_r18_demo --out curves.svg',
)

if __name__ == '__main__':
    run_tool(COMMAND)
