#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Write the backbone of a checkpoint as others can take it, with a model card.

OUT gets NAME_LAYOUT-DIGEST.safetensors, config.json and README.md, which is what a
Hugging Face repository holds.
"""

import argparse

from cmid_mm_cli import Command, run_tool

EPILOG = """\
example: %(prog)s work_dirs/cmid_r18_demo/epoch_4.pth published --name cmid-r18-demo \\
             --data '800 procedural scenes' --license apache-2.0 --bands red green blue

What is not given stands on the card as unknown. No code in CKPT is run.
"""
#: EXPORT_LAYOUTS of cmid_mm.checkpoints.
LAYOUTS = ('mmpretrain', 'mmdet', 'timm')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'checkpoint',
        metavar='CKPT',
        help='checkpoint of a run, or any other that export-backbone takes',
    )
    parser.add_argument('out', metavar='OUT', help='folder to write to')
    parser.add_argument(
        '--name', help="how names of files begin (default: the checkpoint's name)"
    )
    parser.add_argument(
        '--source',
        default='student',
        metavar='NAME',
        help='which network of a file that holds several: student (default), teacher, '
        'or where it stands in the file',
    )
    parser.add_argument(
        '--layouts',
        nargs='+',
        choices=LAYOUTS,
        default=[],
        help='whose names the weights get, a file each (default: those of timm and '
        'torchvision if timm has the family, else those of mmpretrain)',
    )
    card = parser.add_argument_group('for the card')
    unknown = 'unknown'
    card.add_argument('--data', default=unknown, help='images of the pre-training')
    card.add_argument(
        '--license', default=unknown, help='of the weights, such as cc-by-4.0'
    )
    card.add_argument(
        '--bands', nargs='+', default=[], metavar='B', help='names of the bands'
    )
    card.add_argument(
        '--resolution', default=unknown, help="of the images, such as '0.3 m'"
    )
    card.add_argument(
        '--metric',
        nargs=2,
        action='append',
        default=[],
        metavar=('NAME=VALUE', 'COMMAND'),
        help='a score, and the command that measured it; may be given several times',
    )


def main(args: argparse.Namespace) -> None:
    """Publish and say what was written."""
    from cmid_mm.files import check_writable
    from cmid_mm.sharing import Facts, publish

    check_writable(args.out, 'OUT', is_folder=True)
    metrics = []
    for score, command in args.metric:
        name, equals, value = score.rpartition('=')
        if not equals:
            raise ValueError(f'--metric {score}: expected NAME=VALUE and a command')
        metrics.append((name.strip(), value.strip(), command))
    facts = Facts(args.data, args.license, args.bands, args.resolution, metrics)
    written = publish(
        args.checkpoint, args.out, args.name, args.source, args.layouts, facts
    )
    for path in written:
        print(f'Wrote {path}')


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
