#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Convert a published CMID checkpoint, pre-trained or fine-tuned, for cmid_mm."""

import argparse

from cmid_mm_cli import Command, run_tool

EPILOG = """\
A pre-training becomes what configs/cmid/cmid_r50_*.py and cmid_swin-b_*.py load
strictly: student, teacher, projectors, prototypes, queue and centre. A scene
classifier, UperNet, Oriented R-CNN or BIT becomes what our config of its row in the
published tables loads strictly, for testing. No code in SRC is run, whole pickled
modules included.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('src', metavar='SRC', nargs='?', help='published file')
    parser.add_argument('dst', metavar='DST', nargs='?', help='file to write')
    parser.add_argument(
        '--inspect',
        metavar='F',
        help='print what any checkpoint holds, and convert nothing',
    )
    parser.add_argument(
        '--config',
        metavar='CONFIG',
        help='config to convert a fine-tuned network for, path or package::path, '
        'if its classes or its data are not those of the published row',
    )


def main(args: argparse.Namespace) -> None:
    """Convert and say what was written."""
    from cmid_mm.checkpoints import convert_checkpoint, inspect_checkpoint
    from cmid_mm.checkpoints.containers import abbreviate

    if args.inspect:
        if args.src is not None or args.config is not None:
            raise ValueError(
                '--inspect F converts nothing and looks into one file: give no other '
                'file and no --config with it'
            )
        print('\n'.join(inspect_checkpoint(args.inspect)))
        return
    if args.dst is None:
        raise ValueError('SRC and DST are required, or --inspect F')
    meta = convert_checkpoint(args.src, args.dst, args.config)
    print(f'Wrote {args.dst}: {meta["architecture"]}')
    if 'config' in meta:
        classes = meta['dataset_meta']['classes']
        print(f'{meta["origin"]}, {len(classes)} classes: {", ".join(classes)}')
        if meta['left_out']:
            print(f'Left out, as not used: {abbreviate(meta["left_out"])}')
        print(f'Test it: python tools/test.py {meta["config"]} {args.dst}')


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
