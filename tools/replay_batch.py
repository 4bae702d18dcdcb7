#!/usr/bin/env python
# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Repeat a training iteration that was skipped, to see what was not finite first."""

import argparse
import math

from cmid_mm_cli import Command, run_tool

EPILOG = """\
example: %(prog)s work_dirs/mine/sick_batches/iter_1234_rank_0.pth

The file has the batch and the weights; no code in it is run. The config, which is code,
is that in the work folder of the run. docs/reliability.md explains the result.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        'file', metavar='FILE', help='a file of WORK_DIR/sick_batches of a run'
    )
    parser.add_argument(
        '--config',
        metavar='F',
        help='config of the run; default: the one in its work folder',
    )
    parser.add_argument(
        '--device',
        default='cpu',
        help='where to compute; on the kind of device of the run, random choices are '
        'the same (default: cpu)',
    )


def main(args: argparse.Namespace) -> None:
    """Repeat the iteration and print what it comes to."""
    import cmid_mm  # noqa: F401
    from cmid_mm.engine.replay import replay_batch

    replay = replay_batch(args.file, args.config, args.device)
    content = replay.content
    print(f'Iteration {content["iteration"]}: not finite were', *content['sick'])
    print(f'\n{"":32}{"in the run":>14}{"repeated":>14}')
    for name, value in replay.losses.items():
        before = content['losses'].get(name, math.nan)
        print(f'{name:32}{before:14.6g}{value:14.6g}')
    print('\nFirst that is not finite:')
    for kind in ('input', 'feature', 'loss', 'gradient'):
        print(f'  {kind:10}{replay.first.get(kind, "none")}')
    if replay.parameters:
        print(
            f'Gradients of {len(replay.parameters)} parameters are not finite, such as '
            f'that of {replay.parameters[0]}'
        )
    print('\nImages:', *content['file_names'], sep='\n  ')


COMMAND = Command(__doc__, add_arguments, main, EPILOG)

if __name__ == '__main__':
    run_tool(COMMAND)
