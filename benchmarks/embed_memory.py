# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Memory of embedding a large raster: how far it rises above that of a small one.

The scene of predict_raster.py is embedded by a ResNet-18 with random weights, after a
small scene that loads what is needed: ``rise_mib`` is by how much the peak of the
process is higher than it was after that one. A quarter of the channels (``--width``)
takes a sixteenth of the time, and less memory only of the network.

    python benchmarks/embed_memory.py --size 20480 --dense --json result.json
"""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from predict_raster import write_scene
from reporting import add_json, report

from cmid_mm.configs import build_model, load_config
from cmid_mm.embeddings.making import EmbeddingOptions, Maker
from cmid_mm.overrides import merge_options

CONFIG = Path(__file__).parents[1] / 'configs/cmid/cmid_r18_scenes.py'
#: Side of the scene that is embedded first, in windows.
FIRST = 4


def network(width: int) -> dict[str, Any]:
    """Settings of the config for a ResNet-18 of so many channels in its first stage."""
    heads = {
        f'model.heads.{head}.in_channels': 8 * width
        for head in ('reconstruction', 'contrastive', 'assignment')
    }
    return {'model.encoder.backbone.base_channels': width, **heads}


def peak_mib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--size', type=int, default=2048, help='side of the scene')
    parser.add_argument('--window', type=int, default=256, help='side of the windows')
    parser.add_argument('--batch-size', type=int, default=16, help='windows together')
    parser.add_argument('--width', type=int, default=16, help='channels of stage 1')
    parser.add_argument('--stage', type=int, help='which map (default: the last)')
    parser.add_argument('--dense', action='store_true', help='feature rasters')
    add_json(parser)
    args = parser.parse_args()

    MMLogger.get_instance('benchmark', log_level='WARNING')
    cfg, options = load_config(str(CONFIG)), network(args.width)
    merge_options(cfg, options)
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, 'random.pth')
        torch.manual_seed(0)
        torch.save(dict(state_dict=build_model(cfg).state_dict(), meta={}), checkpoint)
        chosen = EmbeddingOptions(
            str(CONFIG),
            str(checkpoint),
            options,
            stage=args.stage,
            window=args.window,
            dense=args.dense,
        )
        maker = Maker(chosen)
        for size in (FIRST * args.window, args.size):
            image = Path(folder, f'{size}.tif')
            write_scene(image, size)
            for _ in maker.write(Path(folder, str(size)), [image], args.batch_size):
                pass
            peaks.append(peak_mib())
    result = {
        'peak_mib': round(peaks[1]),
        'rise_mib': round(peaks[1] - peaks[0]),
        'size': args.size,
        'window': args.window,
        'batch_size': args.batch_size,
        'width': args.width,
        'stage': args.stage,
        'dense': args.dense,
    }
    report(result, args.json)


if __name__ == '__main__':
    main()
