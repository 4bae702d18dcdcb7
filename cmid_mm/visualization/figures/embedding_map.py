# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Images of a folder as points of a plane: near ones have similar features."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from torch import Tensor
from torch.utils.data import Dataset

from ...datasets.scenes import find_scenes
from ...evaluation.features import check_features, extract_features
from ...images import find_images, load_image
from ..curves import COLOURS
from ..drawing import fit
from .source import FigureEncoder
from .style import COLUMN, LETTERS, title

METHODS = ('tsne', 'umap')
#: Told apart together with the colours, where there are more classes than these.
_MARKERS = 'osD^vPX*<>'
_FEWEST = 5
#: Rows and columns of the plane that have a thumbnail each.
_THUMBNAILS = 14


def images_of(folder: str | Path) -> tuple[list[Path], list[str] | None]:
    """Images of a folder, and their classes if it has a folder for each.

    Args:
        folder: With images, or with folders of images.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder; a map is of a folder')
    if not find_images(folder, recursive=False):
        scenes = find_scenes(folder)
        return [path for path, _ in scenes], [name for _, name in scenes]
    return find_images(folder), None


class _Images(Dataset):
    """Images of one size, and their indices."""

    def __init__(self, paths: Sequence[Path], encoder: FigureEncoder, size: int):
        self.paths = paths
        self.reading = replace(encoder.reading, size=size)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = load_image(self.paths[index], self.reading)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), index


def pooled_features(
    encoder: FigureEncoder, paths: Sequence[Path], size: int, num_workers: int = 0
) -> Tensor:
    """Features of images, of unit length, (N, D)."""
    data = _Images(paths, encoder, size)
    features, _ = extract_features(encoder.model, data, 32, num_workers)
    check_features(features)
    return F.normalize(features, dim=1)


def neighbours_right(features: Tensor, labels: Sequence[str]) -> float:
    """Share of images whose most similar other one is of their class, in percent."""
    cosine = features @ features.T
    cosine.fill_diagonal_(-2)
    names = np.array(labels)
    return 100 * float((names[cosine.argmax(1).numpy()] == names).mean())


def plane(features: Tensor, method: str = 'tsne', seed: int = 0) -> NDArray[Any]:
    """Positions of features in a plane.

    Args:
        features: Of unit length, (N, D).
        method: ``'tsne'`` (scikit-learn) or ``'umap'`` (umap-learn).
        seed: Of the positions.

    Returns:
        (N, 2).

    Raises:
        ValueError: If the method is unknown or there are too few.
        ImportError: If umap-learn is not installed.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {METHODS}, got {method!r}')
    count = len(features)
    if count < _FEWEST:
        raise ValueError(f'a map needs at least {_FEWEST} images, got {count}')
    if method == 'tsne':
        perplexity = min(30.0, (count - 1) / 3)
        # Squared distances of unit vectors order them as their cosine does.
        return TSNE(perplexity=perplexity, init='pca', random_state=seed).fit_transform(
            features.numpy()
        )
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            'a map by UMAP needs umap-learn: pip install umap-learn, or take '
            't-SNE (--method tsne)'
        ) from error
    near = min(15, count - 1)
    umap: Any = UMAP(n_neighbors=near, metric='cosine', random_state=seed, n_jobs=1)
    return np.asarray(umap.fit_transform(features.numpy()))


def map_figure(
    encoder: FigureEncoder,
    folder: str | Path,
    method: str = 'tsne',
    thumbnails: bool = False,
    most: int = 2000,
    size: int = 224,
    seed: int = 0,
    num_workers: int = 0,
    width: float = COLUMN,
) -> Figure:
    """Draw the images of a folder as points of a plane.

    Distances in the plane say little; so the share of images whose nearest neighbour
    in the features themselves is of the same class is written above.

    Args:
        encoder: The encoder.
        folder: A folder of images for each class, or of images without classes.
        method: As of :func:`plane`.
        thumbnails: Draw images at their places, as many as do not hide each other.
        most: Images drawn from the folder, at random if it has more.
        size: Side in pixels to which images are resized.
        seed: Of the choice and of the positions.
        num_workers: Processes that read images.
        width: Of the figure in inches.
    """
    paths, labels = images_of(folder)
    if len(paths) > most:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(paths))[:most])
        paths = [paths[i] for i in chosen]
        labels = None if labels is None else [labels[i] for i in chosen]
    features = pooled_features(encoder, paths, size, num_workers)
    points = plane(features, method, seed)
    figure = Figure(figsize=(width, width * 1.1), layout='constrained')
    ax = figure.subplots()
    ax.set(xticks=[], yticks=[])
    name = {'tsne': 't-SNE', 'umap': 'UMAP'}[method]
    text = f'{name} of {len(paths)} images'
    if labels is None:
        ax.scatter(points[:, 0], points[:, 1], s=6, color=COLOURS[0], lw=0)
    else:
        text += f'; nearest of same class: {neighbours_right(features, labels):.0f} %'
        _draw_classes(figure, ax, points, labels)
    title(ax, text)
    if thumbnails:
        _draw_thumbnails(ax, points, paths, encoder, width)
    return figure


def _draw_classes(
    figure: Figure, ax: Axes, points: NDArray[Any], labels: Sequence[str]
) -> None:
    """Points by class: colours, and markers once colours are used up."""
    names = np.array(labels)
    for number, name in enumerate(sorted(set(labels))):
        again, colour = divmod(number, len(COLOURS))
        own = points[names == name]
        ax.scatter(
            own[:, 0],
            own[:, 1],
            s=8,
            color=COLOURS[colour],
            marker=_MARKERS[again % len(_MARKERS)],
            lw=0,
            label=name,
        )
    figure.legend(
        loc='outside lower center',
        ncols=3,
        fontsize=LETTERS - 1,
        markerscale=1.5,
        handletextpad=0.1,
        columnspacing=0.8,
        frameon=False,
    )


def _draw_thumbnails(
    ax: Axes,
    points: NDArray[Any],
    paths: Sequence[Path],
    encoder: FigureEncoder,
    width: float,
) -> None:
    """Draw one image in each cell of the plane that has one."""
    low, high = points.min(0), points.max(0)
    cells = ((points - low) / np.maximum(high - low, 1e-9) * _THUMBNAILS).astype(int)
    _, chosen = np.unique(cells, axis=0, return_index=True)
    side = 72 * width / _THUMBNAILS * 0.85  # points
    for index in chosen:
        picture = fit(encoder.see(paths[index], 64).picture, 64)
        box = OffsetImage(picture, zoom=side / max(picture.shape[:2]))
        ax.add_artist(
            AnnotationBbox(
                box, points[index], frameon=True, pad=0.05, bboxprops=dict(lw=0.3)
            )
        )
