# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""A probe of each pixel on the feature maps of a frozen backbone."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ..images import Reading, find_images
from ..images.reading import load_image
from ..images.tiles import tile_windows
from ..isolation import modes_unchanged, rng_unchanged
from ..labels.masks import IGNORED, check_size, read_index_mask
from .features import LINEAR_PROBE_C

#: What a backbone may have seen of the images' values.
NORMALIZATIONS = ('pretraining', 'target')
HEADS = ('linear', 'conv')
#: Side in pixels of the cells that images are padded to, which all stages divide.
_CELL = 32


class MaskedFolder:
    """Images and their index masks, in windows that a network takes at once.

    Args:
        images: Folder with the images.
        masks: Folder with masks of the same names without ending.
        num_classes: Number of classes; 255 is ignored.
        names: Names without ending of the images to use; None for all.
        window: Longest side of a window in pixels.
        reading: How the images become numbers; None for their own bands.

    Raises:
        FileNotFoundError: If there is no image, or one has no mask.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        num_classes: int,
        names: Sequence[str] | None = None,
        window: int = 512,
        reading: Reading | None = None,
    ) -> None:
        found = _by_stem(images)
        wanted = sorted(found) if names is None else list(names)
        labels = _by_stem(masks)
        for where, files in ((images, found), (masks, labels)):
            lacking = [name for name in wanted if name not in files]
            if lacking or not wanted:
                raise FileNotFoundError(
                    f'{where} has no image named {(lacking or ["*"])[0]!r}; images and '
                    'masks have the same names but for their endings'
                )
        self.files = [(found[name], labels[name]) for name in wanted]
        self.num_classes = num_classes
        self.window = window
        self.reading = reading or Reading()

    def __len__(self) -> int:
        return len(self.files)

    def images(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each image, (C, H, W) on the 0-255 scale, and its mask, (H, W)."""
        for image_path, mask_path in self.files:
            image = load_image(image_path, self.reading)
            mask = read_index_mask(mask_path, self.num_classes)
            check_size(mask_path, mask, image_path, image.shape)
            yield torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)

    def windows(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Index of the image, a window of it, (C, h, w), and its mask, (h, w).

        Pixels that an earlier window of the image had too are ignored in the mask.
        """
        for index, (image, mask) in enumerate(self.images()):
            rows, columns = mask.shape
            for window in tile_windows(rows, columns, self.window, overlap=0):
                top, left, height, width = window
                area = np.s_[..., top : top + height, left : left + width]
                yield index, image[area], mask[area].clone()
                mask[area] = IGNORED


def _by_stem(folder: str | Path) -> dict[str, Path]:
    return {path.stem: path for path in find_images(folder)}


@dataclass(frozen=True)
class DenseEncoder:
    """The feature maps of some stages of a frozen backbone, as one map.

    Args:
        model: CMID, or one of mmpretrain's algorithms with a preprocessor of ours,
            whose backbone gives the stages that are probed (``out_indices``).
        band_mean: Mean of each band of the images by which they are normalised, (C,);
            None for that of the pre-training.
        band_std: Likewise.
    """

    model: nn.Module
    band_mean: Tensor | None = None
    band_std: Tensor | None = None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Features of an image.

        Coarser maps are enlarged bilinearly to the finest one's grid; the image is
        padded by its edge to whole cells of the coarsest.

        Args:
            image: On the 0-255 scale, (C, H, W).

        Returns:
            (D, h, w), of cells as large as ``H_padded / h`` pixels.
        """
        preprocessor: Any = self.model.data_preprocessor
        pixels = image[None].float().to(preprocessor.mean.device)
        if self.band_mean is not None and self.band_std is not None:
            shape = 1, -1, 1, 1
            pixels = (pixels - self.band_mean.view(shape)) / self.band_std.view(shape)
            pixels = pixels * preprocessor.std + preprocessor.mean
        pixels = preprocessor.normalize(pad_to_cells(pixels))
        backbone: Any = getattr(self.model, 'student', self.model).backbone
        maps = backbone(pixels)
        size = maps[0].shape[-2:]
        maps = [F.interpolate(m, size, mode='bilinear') for m in maps]
        return torch.cat(maps, 1)[0].float()


def pad_to_cells(values: Tensor) -> Tensor:
    """Images, (B, C, H, W), padded by their edge to whole cells of 32 pixels."""
    height, width = values.shape[-2:]
    return F.pad(values, (0, -width % _CELL, 0, -height % _CELL), mode='replicate')


def cell_labels(mask: Tensor, grid: Sequence[int], num_classes: int) -> Tensor:
    """Class of most pixels of each cell.

    Args:
        mask: Classes, 255 ignored, (H, W).
        grid: Rows and columns of the cells, of the mask padded to multiples of 32.
        num_classes: Number of classes.

    Returns:
        int64 (rows, columns); 255 where no class has half of the pixels.
    """
    padding = -mask.shape[0] % _CELL, -mask.shape[1] % _CELL
    mask = F.pad(mask, (0, padding[1], 0, padding[0]), value=IGNORED).long()
    classes = F.one_hot(mask.clamp(max=num_classes), num_classes + 1)
    cell = mask.shape[0] // grid[0], mask.shape[1] // grid[1]
    share = F.avg_pool2d(classes.permute(2, 0, 1)[None].float(), cell)[0, :-1]
    largest, label = share.max(0)
    return torch.where(largest >= 0.5, label, IGNORED)


def band_statistics(folder: MaskedFolder) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over all pixels of the images, (C,)."""
    total, squares, count = torch.zeros(1), torch.zeros(1), 0
    for image, _ in folder.images():
        pixels = image.flatten(1).double()
        total = total + pixels.sum(1)
        squares = squares + pixels.square().sum(1)
        count += pixels.shape[1]
    mean = total / count
    return mean.float(), (squares / count - mean**2).clamp(min=1e-6).sqrt().float()


def probe_pixels(
    encoder: DenseEncoder,
    train: MaskedFolder,
    test: MaskedFolder,
    head: str = 'linear',
    max_cells: int = 20_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit a head on the cells of one set and score the pixels of another.

    Args:
        encoder: What gives the features.
        train: Images to learn from.
        test: Images to segment.
        head: ``'linear'``: multinomial logistic regression on standardised features
            of single cells. ``'conv'``: a 3x3 convolution of 128 channels with
            BatchNorm before it.
        max_cells: Cells of ``train`` to fit on, drawn at random.
        seed: Of the drawing, of the head's weights and of the bootstrap.

    Returns:
        ``mIoU`` in percent over classes that occur in ``test``, ``interval``, 95 %,
        by a bootstrap over its images, ``IoU`` of each class (NaN without pixels),
        ``aAcc``, ``feature_dim``, ``train_cells`` and ``test_images``.

    Raises:
        ValueError: If the head is unknown, or the training cells are of one class.
    """
    if head not in HEADS:
        raise ValueError(f'head must be one of {HEADS}, got {head!r}')
    with rng_unchanged(), modes_unchanged(encoder.model):
        encoder.model.eval()
        torch.manual_seed(seed)
        features, labels = [], []
        for _, image, mask in train.windows():
            cells = encoder(image).cpu()
            features.append(cells)
            labels.append(cell_labels(mask, cells.shape[1:], train.num_classes))
        fit = fit_linear if head == 'linear' else fit_convolution
        classify = fit(features, labels, train.num_classes, max_cells)
        del features
        confusions = torch.zeros(len(test), train.num_classes, train.num_classes)
        for index, image, mask in test.windows():
            scores = classify(encoder(image).cpu())
            padded = [side + -side % _CELL for side in mask.shape]
            scores = F.interpolate(scores[None], padded, mode='bilinear')[0]
            predicted = scores[:, : mask.shape[0], : mask.shape[1]].argmax(0)
            confusions[index] += confusion(predicted, mask, train.num_classes)
    iou = intersection_over_union(confusions.sum(0))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(test), (1000, len(test)), generator=generator)
    resampled = torch.stack(
        [intersection_over_union(confusions[d].sum(0)).nanmean() for d in draws]
    )
    low, high = resampled.quantile(torch.tensor([0.025, 0.975])).tolist()
    hits = confusions.sum(0).diagonal().sum() / confusions.sum()
    return dict(
        mIoU=iou.nanmean().item(),
        interval=(low, high),
        IoU=iou.tolist(),
        aAcc=100 * hits.item(),
        feature_dim=cells.shape[0],
        train_cells=sum(int((label != IGNORED).sum()) for label in labels),
        test_images=len(test),
    )


def confusion(predicted: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Counts of pixels by true (row) and predicted class, (K, K)."""
    counted = mask != IGNORED
    pairs = mask[counted].long() * num_classes + predicted[counted]
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def intersection_over_union(confusion: Tensor) -> Tensor:
    """IoU of each class in percent, (K,); NaN for classes without true pixels."""
    hits, true = confusion.diagonal(), confusion.sum(1)
    union = true + confusion.sum(0) - hits
    return torch.where(true > 0, 100 * hits / union, torch.nan)


Classifier = Callable[[Tensor], Tensor]


def fit_linear(
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int,
    max_cells: int = 20_000,
) -> Classifier:
    """Multinomial logistic regression on single cells.

    Args:
        features: Feature maps, (D, h, w) each.
        labels: Classes of their cells, (h, w) each.
        num_classes: Number of classes.
        max_cells: Cells to fit on, drawn by torch's generator.

    Returns:
        What turns a feature map, (D, h, w), into scores, (K, h, w).
    """
    cells = torch.cat([f.flatten(1).T for f in features])
    classes = torch.cat([label.flatten() for label in labels])
    known = torch.nonzero(classes != IGNORED)[:, 0]
    known = known[torch.randperm(len(known))[:max_cells]]
    if len(classes[known].unique()) < 2:
        raise ValueError('a probe needs training pixels of at least two classes')
    probe = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=LINEAR_PROBE_C, max_iter=200, random_state=0),
    )
    with warnings.catch_warnings():
        # The last digits of the loss do not change a prediction.
        warnings.simplefilter('ignore', ConvergenceWarning)
        probe.fit(cells[known].numpy(), classes[known].numpy())

    def classify(feature: Tensor) -> Tensor:
        rows = feature.flatten(1).T.numpy()
        found = torch.from_numpy(probe.predict_log_proba(rows)).float()
        scores = found.new_full((num_classes, len(rows)), -torch.inf)
        scores[torch.from_numpy(probe.classes_)] = found.T
        return scores.unflatten(1, feature.shape[1:]).clamp(min=-1e4)

    return classify


def fit_convolution(
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    num_classes: int,
    max_cells: int = 20_000,
    epochs: int = 20,
) -> Classifier:
    """A small convolutional head, by Adam over the windows; as :func:`fit_linear`.

    ``max_cells`` does not limit it: it sees all cells.
    """
    width = features[0].shape[0]
    network = nn.Sequential(
        nn.BatchNorm2d(width),
        nn.Conv2d(width, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, num_classes, 1),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    steps = epochs * len(features)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for index in torch.randperm(len(features)).tolist():
            label = labels[index][None]
            if (label == IGNORED).all():
                continue
            scores = network(features[index][None])
            loss = F.cross_entropy(scores, label, ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()

    @torch.no_grad()
    def classify(feature: Tensor) -> Tensor:
        return network(feature[None])[0]

    return classify
