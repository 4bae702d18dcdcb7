# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Draw figures of what a network knows: attention, matches, similarity, PCA, ...

Each figure is made for a column of a paper, in colours for all kinds of colour vision,
as PNG, SVG or PDF by the suffix of --out.
"""

import argparse
from collections.abc import Callable
from typing import Any

from cmid_mm_cli import Command, add_config_options, band, run_tool, value_range_of

EPILOG = """\
%(prog)s WHAT -h explains a figure. Examples:

  %(prog)s pca CONFIG CHECKPOINT scene.tif other.tif --out pca.png
  %(prog)s similarity CONFIG CHECKPOINT scene.tif --point 8.54 47.37 --crs EPSG:4326
  %(prog)s correspondence CONFIG CHECKPOINT 2019.tif 2024.tif --out matches.svg
  %(prog)s map CONFIG CHECKPOINT UCMerced --thumbnails --out map.pdf
"""

WHAT = {
    'reconstruction': 'masked images and what the student makes of them',
    'attention': 'where the heads of ViT and Swin look; the feature norm of others',
    'correspondence': 'the most similar cells of two images, or of two views of one',
    'similarity': 'a map of how similar all parts are to a point',
    'pca': 'principal components of dense features as colours, one basis for all',
    'map': 'the images of a folder in a plane, by t-SNE or UMAP',
    'prototypes': 'the cells that prototypes take, and how evenly they are used',
    'spectra': 'spectra of reconstructions, by epoch of a run',
    'curves': 'curves of the scalars that runs have logged',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    figures = parser.add_subparsers(
        dest='what', required=True, metavar='WHAT', title='figures'
    )
    for what, text in WHAT.items():
        figure = figures.add_parser(what, help=text, description=text.capitalize())
        if what == 'curves':
            figure.add_argument('runs', nargs='+', help='work directories or logs')
            figure.add_argument(
                '--names', nargs='+', metavar='NAME', help='scalars to draw'
            )
        else:
            add_common(figure, what)
        figure.add_argument(
            '--out',
            metavar='F',
            help=f'.png, .svg or .pdf (default: {what}.png)',
            default=f'{what}.png',
        )
        figure.add_argument(
            '--dpi', type=int, default=200, help='dots per inch (default: %(default)s)'
        )
        if what in OWN:
            OWN[what](figure)


def add_common(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the arguments of all figures that a network makes."""
    parser.add_argument('config', help='config of the pre-training')
    parser.add_argument(
        'checkpoint',
        help="checkpoint of the run, or 'random' for the untrained network"
        + ('; or the folder of a run with several' if what == 'spectra' else ''),
    )
    parser.add_argument(
        'images',
        nargs='+',
        help='a folder of images, or of a folder for each class'
        if what == 'map'
        else 'files, folders or patterns',
    )
    parser.add_argument(
        '--backbone-only',
        action='store_true',
        help='the checkpoint is that of a backbone: exported, timm, torchvision, ...',
    )
    parser.add_argument(
        '--stages',
        type=int,
        nargs='+',
        metavar='S',
        help='stages of the backbone whose features are taken together, counted from '
        '0; earlier ones have smaller cells (default: those that the config has as '
        'out_indices)',
    )
    parser.add_argument(
        '--show-bands',
        type=int,
        nargs='+',
        metavar='B',
        help='three bands to show as red, green and blue, or one, counted from 1 among '
        'those that are read (default: the first three)',
    )
    parser.add_argument(
        '--bands',
        type=band,
        nargs='+',
        metavar='B',
        help='bands of the files to take, as in the other commands (default: as the '
        'config reads the training images)',
    )
    parser.add_argument(
        '--value-range', type=float, nargs='+', metavar='V', help='likewise'
    )
    parser.add_argument('--nodata', type=float, metavar='V', help='likewise')
    parser.add_argument(
        '--gsd', type=float, metavar='M', help='distance of pixels in metres, likewise'
    )
    parser.add_argument(
        '--window',
        type=int,
        default=512,
        help='side in pixels of the windows in which larger images are encoded '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--width',
        type=float,
        default=3.5,
        metavar='IN',
        help='of the figure in inches (default: %(default)s, a column)',
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--device', help='such as cuda (default: a GPU if there is one, else cpu)'
    )
    add_config_options(parser, 'the options that the run was given')


def add_point(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the options of a point."""
    parser.add_argument(
        '--point',
        type=float,
        nargs=2,
        metavar=('X', 'Y'),
        required=required,
        help='in pixels from the upper left corner, or in --crs',
    )
    parser.add_argument(
        '--crs', help='coordinate system of the point, such as EPSG:4326 (lon lat)'
    )


def add_attention(parser: argparse.ArgumentParser) -> None:
    """Add the options of attention."""
    parser.add_argument(
        '--layer',
        type=int,
        default=-1,
        help='layer of attention, counted from 0, or from the end (default: the last)',
    )
    parser.add_argument(
        '--heads', type=int, nargs='+', metavar='H', help='default: the first twelve'
    )
    parser.add_argument(
        '--query',
        choices=('mean', 'class'),
        default='mean',
        help='who looks: all positions on average, or the class token',
    )
    add_point(parser, required=False)


def add_correspondence(parser: argparse.ArgumentParser) -> None:
    """Add the options of correspondence."""
    parser.add_argument(
        '--aligned',
        action='store_true',
        help='equal pixels of both images show the same ground',
    )
    parser.add_argument(
        '--matches', type=int, default=40, help='drawn (default: %(default)s)'
    )


def add_map(parser: argparse.ArgumentParser) -> None:
    """Add the options of the map."""
    parser.add_argument(
        '--method',
        choices=('tsne', 'umap'),
        default='tsne',
        help='default: %(default)s',
    )
    parser.add_argument('--thumbnails', action='store_true', help='draw images')
    parser.add_argument(
        '--size', type=int, default=224, help='side of the images (default: 224)'
    )
    parser.add_argument(
        '--max-images', type=int, default=2000, help='default: %(default)s'
    )
    parser.add_argument('--num-workers', type=int, default=0, help='default: 0')


def add_prototypes(parser: argparse.ArgumentParser) -> None:
    """Add the options of prototypes."""
    parser.add_argument(
        '--count', type=int, default=8, help='prototypes drawn (default: %(default)s)'
    )
    parser.add_argument(
        '--examples', type=int, default=6, help='cells of each (default: %(default)s)'
    )


OWN: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    'attention': add_attention,
    'correspondence': add_correspondence,
    'similarity': add_point,
    'map': add_map,
    'prototypes': add_prototypes,
}


def load(args: argparse.Namespace, checkpoint: Any) -> Any:
    """Load the encoder."""
    from cmid_mm.visualization.figures import load_figure_encoder

    return load_figure_encoder(
        args.config,
        checkpoint,
        args.backbone_only,
        args.seed,
        args.cfg_options,
        args.device,
        args.stages,
        args.show_bands,
        args.window,
        bands=args.bands,
        value_range=value_range_of(args.value_range),
        nodata=args.nodata,
        gsd=args.gsd,
    )


def draw(args: argparse.Namespace) -> Any:
    """Make the figure that is asked for."""
    from cmid_mm.configs import load_config
    from cmid_mm.images import named_images
    from cmid_mm.overrides import merge_options
    from cmid_mm.visualization import figures
    from cmid_mm.visualization.figures import reconstruction, spectra

    if args.what == 'curves':
        return figures.curves_figure(args.runs, args.names)
    width: dict[str, Any] = dict(width=args.width)
    if args.what == 'map':
        if len(args.images) > 1:
            raise ValueError(f'a map is of one folder, got {len(args.images)} names')
        return figures.map_figure(
            load(args, args.checkpoint),
            args.images[0],
            args.method,
            args.thumbnails,
            args.max_images,
            args.size,
            args.seed,
            args.num_workers,
            **width,
        )
    images: Any = named_images(args.images)
    if args.what in ('reconstruction', 'spectra'):
        cfg = load_config(args.config)
        merge_options(cfg, args.cfg_options)
        masking = reconstruction.masking_of(cfg)
    if args.what == 'spectra':
        made = {}
        for label, path in spectra.checkpoints_of([args.checkpoint]).items():
            encoder = load(args, path)
            batch = reconstruction.masked_batch(encoder, images, masking, args.seed)
            made[label] = reconstruction.reconstructions(encoder, batch)
        return figures.spectra_figure(made, **width)
    encoder = load(args, args.checkpoint)
    if args.what == 'reconstruction':
        return figures.reconstruction_figure(
            encoder, images, masking, args.seed, **width
        )
    if args.what == 'attention':
        return figures.attention_figure(
            encoder,
            images,
            args.layer,
            args.heads,
            args.query,
            args.point,
            args.crs,
            **width,
        )
    if args.what == 'correspondence':
        return figures.correspondence_figure(
            encoder, images, args.aligned, args.matches, **width
        )
    if args.what == 'similarity':
        return figures.similarity_figure(encoder, images, args.point, args.crs, **width)
    if args.what == 'prototypes':
        return figures.prototypes_figure(
            encoder, images, args.count, args.examples, **width
        )
    return figures.pca_figure(encoder, images, **width)


def main(args: argparse.Namespace) -> None:
    """Draw, and say where the figure is."""
    import torch
    from mmengine.logging import MMLogger

    from cmid_mm.files import check_writable
    from cmid_mm.visualization.figures.style import figure_format, save_figure

    figure_format(args.out)
    check_writable(args.out, '--out')
    if args.what != 'curves':
        args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    # Else every initialised weight would be listed.
    MMLogger.get_instance('visualize', log_level='WARNING')
    try:
        figure = draw(args)
    except RuntimeError as error:  # of the device: unknown, or out of memory
        raise ValueError(error) from error
    save_figure(figure, args.out, args.dpi)
    print(f'wrote {args.out}')


COMMAND = Command(__doc__, add_arguments, main, EPILOG, reads_images=True)

if __name__ == '__main__':
    run_tool(COMMAND)
