#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Write the backbone of a checkpoint alone, for use in other libraries."""

import argparse

from cmid_mm_cli import Command, run_tool

EPILOG = """\
init_cfg=dict(type='PretrainedBackbone', checkpoint=...) loads every layout, and the
unexported checkpoint as well. No code in CKPT is run.
"""
#: EXPORT_LAYOUTS of cmid_mm.checkpoints.
LAYOUTS = ('mmpretrain', 'mmdet', 'timm')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'checkpoint',
        metavar='CKPT',
        help='checkpoint of a run, a published CMID checkpoint, or any other file with '
        'a ResNet, Swin, ViT, DINOv3, ConvNeXt or RVSA backbone',
    )
    parser.add_argument(
        'out',
        metavar='OUT',
        help='file to write; one named *.safetensors is written in that format',
    )
    parser.add_argument(
        '--layout',
        choices=LAYOUTS,
        default='mmpretrain',
        help="whose names: mmpretrain's, for init_cfg=dict(type='Pretrained', "
        "checkpoint=OUT, prefix='backbone.') (default); those of mmdet and mmseg, for "
        "init_cfg=dict(type='Pretrained', checkpoint=OUT); or those of timm and "
        'torchvision',
    )
    parser.add_argument(
        '--source',
        default='student',
        metavar='NAME',
        help='which network of a file that holds several: student, the one that was '
        'trained (default), teacher, its moving average, or where it stands in the '
        'file, such as state_dict_ema (docs/pretrained_weights.md)',
    )


def main(args: argparse.Namespace) -> None:
    """Export and say what was written."""
    from cmid_mm.checkpoints import export_backbone
    from cmid_mm.files import check_writable

    check_writable(args.out, 'OUT')
    meta = export_backbone(args.checkpoint, args.out, args.layout, args.source)
    architecture = meta.get('architecture', 'backbone of an unknown family')
    print(f'Wrote {args.out}: {architecture}, {args.layout} layout')


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
