#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Export a network as ONNX or as a program of torch.export, checked on real images.

Backbones of pre-trainings, classifiers, segmentors and change detectors; detectors
cannot be exported, their backbones can. OUT.json says what goes in and comes out.
"""

import argparse

from cmid_mm_cli import Command, add_config_options, run_tool

EPILOG = """\
example: %(prog)s configs/segmentation/upernet_r18_demo.py \\
             work_dirs/upernet_r18_demo/iter_150.pth map.onnx --images scenes
         cmid-mm predict --onnx map.onnx scene.tif --out maps

Normalised images go in, logits or feature maps come out. An export that differs from
the model on the images is refused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('config', help='config of the model, or package::path')
    parser.add_argument('checkpoint', help='checkpoint of a run with this config')
    parser.add_argument(
        'out', metavar='OUT', help='file to write, ending in .onnx or .pt2'
    )
    parser.add_argument(
        '--images',
        nargs='+',
        required=True,
        metavar='I',
        help='files, folders or patterns: images on which the export is checked, for '
        'change detection given as for predict',
    )
    parser.add_argument(
        '--backbone',
        action='store_true',
        help='the backbone alone, also of a model of a task',
    )
    parser.add_argument(
        '--source',
        default='student',
        metavar='NAME',
        help='of a backbone: student (default), teacher, ...',
    )
    parser.add_argument(
        '--size',
        type=int,
        metavar='N',
        help='side of the windows in pixels, which networks with Swin, ViT or RVSA '
        'take alone (default: that of the config; of a backbone 224)',
    )
    add_config_options(parser, 'override settings')


def main(args: argparse.Namespace) -> None:
    """Export and say what was written."""
    from mmengine.logging import MMLogger

    from cmid_mm.configs import load_config
    from cmid_mm.files import check_writable
    from cmid_mm.overrides import merge_options
    from cmid_mm.sharing.exporting import export_network

    check_writable(args.out, 'OUT')
    MMLogger.get_instance('export', log_level='WARNING')
    cfg = load_config(args.config)
    merge_options(cfg, args.cfg_options)
    said = export_network(
        cfg,
        args.checkpoint,
        args.out,
        args.images,
        args.source,
        args.backbone,
        args.size,
    )
    checked = said['checked']
    kind = ' '.join(said[key] for key in ('task', 'architecture') if key in said)
    print(
        f'Wrote {args.out} and {args.out}.json: {kind}, input '
        f'{" x ".join(map(str, said["input"]))}; on {checked["images"]} images it '
        f'differs from the model by {checked["largest_difference"]:.1e} at most'
    )


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
