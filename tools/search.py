# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Find similar places in embedded images, or classify all from a few marked ones.

Queries are images (chips), points of a raster (FILE@x,y in its reference system), or
points of the map (@longitude,latitude). With --labels, points with a class, a linear
classifier learns from the windows that they mark and is applied to all.
"""

import argparse
from pathlib import Path

from cmid_mm_cli import Command, run_tool

EPILOG = """\
examples:
  %(prog)s vectors chip.png --out similar.png similar.gpkg
  %(prog)s vectors scene.tif@500640,2999800 --exclude-own --out similar.png
  %(prog)s vectors --labels marks.geojson --field class --out classes.gpkg --map maps
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument('index', help='folder that embed has written')
    parser.add_argument(
        'queries',
        nargs='*',
        metavar='QUERY',
        help='image, FILE@x,y or @lon,lat; several are examples of one thing',
    )
    parser.add_argument(
        '--out',
        nargs='+',
        default=[],
        metavar='FILE',
        help='.png or .jpg: a sheet of the windows; .csv, .gpkg, .geojson, .parquet: '
        'a table of them (default: the table is printed)',
    )
    search = parser.add_argument_group('search')
    search.add_argument(
        '--top', type=int, default=20, metavar='N', help='windows (default: 20)'
    )
    search.add_argument(
        '--combine',
        choices=('mean', 'max'),
        default='mean',
        help='of several queries: similarity to their mean, or to the nearest one '
        '(default: %(default)s)',
    )
    search.add_argument(
        '--exclude-own',
        action='store_true',
        help='leave out windows that share a pixel with a query',
    )
    search.add_argument(
        '--library',
        choices=('exact', 'faiss'),
        default='exact',
        help='exact: block by block; faiss: all vectors in memory, on all cores; both '
        'find the same (default: %(default)s)',
    )
    search.add_argument(
        '--no-centring',
        action='store_true',
        help='plain cosine similarity (default: that of the differences from the mean '
        'of the index, which tells more)',
    )
    search.add_argument(
        '--bands',
        type=int,
        nargs='+',
        metavar='B',
        help='bands of multi-band images to show, counted from 1 among the loaded ones '
        '(default: the first three)',
    )
    labels = parser.add_argument_group('few labels to a map')
    labels.add_argument(
        '--labels', metavar='FILE', help='points with a class (GeoJSON, GeoPackage)'
    )
    labels.add_argument(
        '--field',
        default='class',
        metavar='F',
        help='field that holds the class (default: %(default)s)',
    )
    labels.add_argument('--layer', metavar='N', help='name of the layer')
    labels.add_argument(
        '--map', metavar='DIR', help='also write a class raster of each image'
    )
    model = parser.add_argument_group('network, for queries that are not in the index')
    model.add_argument('--config', metavar='C', help='default: that of the index')
    model.add_argument('--checkpoint', metavar='C', help='default: that of the index')
    model.add_argument(
        '--device', default='cpu', help='such as cuda (default: %(default)s)'
    )


def main(args: argparse.Namespace) -> None:
    """Search or classify."""
    from cmid_mm.embeddings.hits import PICTURES, TABLES
    from cmid_mm.embeddings.index import Index
    from cmid_mm.files import check_writable

    outputs = [Path(name) for name in args.out]
    for path in outputs:
        check_writable(path, '--out')
        if path.suffix not in PICTURES + TABLES:
            raise ValueError(
                f'--out {path}: expected a name that ends in '
                f'{", ".join(PICTURES + TABLES)}'
            )
    if bool(args.queries) == bool(args.labels):
        raise ValueError('give queries, or --labels, and not both')
    index = Index(args.index)
    if args.labels:
        _classify(args, index, outputs)
    else:
        _search(args, index, outputs)


def _search(args: argparse.Namespace, index, outputs: list[Path]) -> None:
    import numpy as np

    from cmid_mm.embeddings.hits import PICTURES, write_hits, write_sheet
    from cmid_mm.embeddings.queries import Queries
    from cmid_mm.embeddings.searching import nearest

    if args.map:
        raise ValueError('--map is of --labels: give that')
    queries = Queries(index, args.config, args.checkpoint, args.device)
    examples = [queries.example(text) for text in args.queries]
    hits = nearest(
        index,
        np.stack([example.vector for example in examples]),
        args.top,
        args.combine,
        [example.shown for example in examples] if args.exclude_own else [],
        args.library,
        not args.no_centring,
    )
    if not hits:
        raise ValueError(
            f'{args.index}: --exclude-own leaves no window of {len(index)}'
        )
    for path in outputs:
        if path.suffix in PICTURES:
            write_sheet(path, examples, hits, index.reading, args.bands)
        else:
            write_hits(path, hits)
    if outputs:
        names = ' and '.join(map(str, outputs))
        print(f'wrote the {len(hits)} most similar of {len(index)} windows to {names}')
        return
    print('rank  similarity  window (top, left, height, width), file')
    for hit in hits:
        entry = hit.entry
        print(f'{hit.rank:4}  {hit.similarity:10.4f}  {entry.window} {entry.file}')


def _classify(args: argparse.Namespace, index, outputs: list[Path]) -> None:
    from cmid_mm.embeddings.labelling import WindowClassifier, marked_windows
    from cmid_mm.embeddings.maps import write_classes

    marked = marked_windows(index, args.labels, args.field, args.layer)
    classifier = WindowClassifier(marked)
    shares = write_classes(
        index, classifier, outputs, Path(args.map) if args.map else None
    )
    print(
        f'learnt from {len(marked.classes)} marked windows'
        + (f'; {marked.outside} points lie in none' if marked.outside else '')
        + (f'; {marked.mixed} hold several classes: left out' if marked.mixed else '')
    )
    for name, count in shares.items():
        print(f'{name}: {count} of {len(index)} windows')


COMMAND = Command(__doc__, add_arguments, main, EPILOG, reads_images=True)

if __name__ == '__main__':
    run_tool(COMMAND)
