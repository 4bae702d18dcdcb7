# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Nearest neighbours and a linear probe on the features of a frozen encoder."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..datasets.scenes import SceneDataset
from ..datasets.transforms.loading import LoadImagery
from ..isolation import modes_unchanged, rng_unchanged
from ..worker_faults import TIMEOUT
from .apart import check_apart

LINEAR_PROBE_C = 0.01
"""Inverse L2 strength of the linear probe, as in scikit-learn.

One fixed value, so that probes of different encoders compare. The features are
standardised and mostly outnumber the images, hence stronger than the usual 1.
"""


class LabelledFolder(SceneDataset):
    """The images of a :class:`SceneDataset` and their classes, ready for a network.

    Items are pairs of an image on the 0-255 scale, (C, size, size), uint8 or float32,
    and its label. Classes without images are allowed.

    Args:
        root: Folder with the images.
        list_file: List of the images to use, see
            :func:`cmid_mm.datasets.find_scenes`. Defaults to None, all images.
        class_names: Names in the order of the labels, ``class_names`` of the training
            set when reading the test set. Defaults to None, those of the folders; the
            classes of a list with integer labels are named ``'0'``, ``'1'``, ....
        size: Side of the square images returned, in pixels. Defaults to 224.
        **loading: Further options of :class:`cmid_mm.datasets.LoadImagery`.

    Raises:
        FileNotFoundError: If ``root``, the list or an image in it does not exist.
        ValueError: If there are no images, a line of the list is malformed, there
            is only one class, a class is not in ``class_names``, or the first image
            does not have the bands or values expected.
    """

    needs_all_classes = False

    def __init__(
        self,
        root: str | Path,
        list_file: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        size: int = 224,
        **loading: Any,
    ) -> None:
        # A relative path of the data set's own would be below its root.
        if list_file is not None and Path(list_file).is_file():
            list_file = Path(list_file).absolute()
        super().__init__(
            str(root),
            ann_file=str(list_file or ''),
            classes=class_names,
            pipeline=[LoadImagery(size, **loading), _image_and_label],
            test_mode=True,
        )
        if class_names is None and len(set(self.get_gt_labels())) < 2:
            raise ValueError(
                f'{list_file or root} has images of one class only; an accuracy needs '
                f'at least two, each in a folder of its own directly below {root}'
            )
        # Wrong bands or value range are refused here, not in the middle of a run.
        self[0]

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return list(self.CLASSES)

    @property
    def image_paths(self) -> list[str]:
        """Files of the images, in their order."""
        return [self.get_data_info(i)['img_path'] for i in range(len(self))]


def check_test(train: LabelledFolder, test: LabelledFolder) -> None:
    """Refuse a test of images that are learnt from.

    Raises:
        ValueError: If an image is among both.
    """
    check_apart(train.image_paths, test.image_paths)


def _image_and_label(sample: dict[str, Any]) -> tuple[Tensor, int]:
    image = torch.from_numpy(sample['img'])  # (size, size, C)
    return image.permute(2, 0, 1).contiguous(), sample['gt_label']


def extract_features(
    model: nn.Module,
    dataset: Dataset,
    batch_size: int = 64,
    num_workers: int = 2,
    device: str | torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Pooled features of every image, by the encoder as it stands.

    Runs in eval mode without gradients. Training modes and random states are what
    they were before when it returns.

    Args:
        model (nn.Module): A model with ``extract_feats(images) -> (B, D)``, images
            (B, C, H, W) on the 0-255 scale, or one of mmpretrain's self-supervised
            algorithms with a ``SelfSupViewPreprocessor``, whose backbone's last
            output is pooled.
        dataset (Dataset): Pairs of an image (C, H, W) and its label.
        batch_size (int): Images per forward pass. Defaults to 64.
        num_workers (int): Processes that load images. Defaults to 2.
        device (str | torch.device, optional): Where the images are sent. Defaults
            to None, the device of the model's parameters.

    Returns:
        tuple[Tensor, Tensor]: Features (N, D), float32, and labels (N,), int64, in
        the order of the data set, on the CPU.

    Raises:
        TypeError: If the model is neither.
    """
    extract_feats = feature_function(model)
    if device is None:
        device = next(model.parameters()).device
    features, labels = [], []
    timeout = TIMEOUT if num_workers else 0
    loader = DataLoader(dataset, batch_size, num_workers=num_workers, timeout=timeout)
    # Not inference_mode: what a module caches in it could not be trained on later.
    with rng_unchanged(), modes_unchanged(model), torch.no_grad():
        model.eval()
        for images, batch_labels in loader:
            features.append(extract_feats(images.to(device)).float().cpu())
            labels.append(batch_labels)
    return torch.cat(features), torch.cat(labels)


def feature_function(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """What turns images on the 0-255 scale into pooled features, (B, D)."""
    extract_feats: Any = getattr(model, 'extract_feats', None)
    if extract_feats is not None:
        return extract_feats
    normalize = getattr(getattr(model, 'data_preprocessor', None), 'normalize', None)
    if isinstance(model, BaseSelfSupervisor) and normalize is not None:
        return lambda images: pool_features(model.extract_feat(normalize(images)))
    raise TypeError(
        f'{type(model).__name__} has no method extract_feats(images) -> (B, D); '
        "features can be evaluated of CMID, of mmpretrain's self-supervised "
        'algorithms with SelfSupViewPreprocessor, and of models that have one'
    )


def pool_features(outputs: Tensor | Sequence[Tensor]) -> Tensor:
    """Average the last output of a backbone over its positions.

    Args:
        outputs (Tensor | Sequence[Tensor]): What the backbone returned. The last
            tensor is a feature map (B, D, h, w), tokens (B, 1 + L, D) with a class
            token in front, which is left out, or already pooled, (B, D).

    Returns:
        Tensor: (B, D).
    """
    features = outputs if isinstance(outputs, Tensor) else outputs[-1]
    if features.ndim == 4:
        return features.mean((2, 3))
    return features[:, 1:].mean(1) if features.ndim == 3 else features


def check_features(features: Tensor) -> None:
    """Refuse features that no classifier can use.

    Args:
        features (Tensor): (N, D).

    Raises:
        ValueError: If a feature is NaN or infinite.
    """
    broken = int((~features.isfinite().all(1)).sum())
    if broken:
        raise ValueError(
            f'features of {broken} of {len(features)} images contain NaN or infinity; '
            'the training has diverged: lower the learning rate or check the data'
        )


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of right predictions.

    Args:
        predicted (Tensor): Predicted labels, (N,).
        labels (Tensor): True labels, (N,).

    Returns:
        float: In percent, 0 to 100.
    """
    return 100 * (predicted == labels).double().mean().item()


def accuracy_per_class(
    predicted: Tensor, labels: Tensor, num_classes: int
) -> list[float]:
    """Share of right predictions among the images of each class.

    Args:
        predicted (Tensor): Predicted labels, (N,).
        labels (Tensor): True labels, (N,).
        num_classes (int): Number of classes.

    Returns:
        list[float]: In percent, one a class; NaN for a class without images.
    """
    return [
        accuracy(predicted[labels == label], labels[labels == label])
        for label in range(num_classes)
    ]


def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    batch_size: int = 256,
) -> Tensor:
    """Classify by a weighted vote of the k nearest training images.

    The k training features with the highest cosine similarity s vote for their
    class with weight exp(s / temperature) (Wu et al., "Unsupervised Feature Learning
    via Non-Parametric Instance Discrimination", CVPR 2018, section 3.4). Among
    equally similar images the earlier one is nearer; among classes with equal votes
    the lower label wins.

    Args:
        train_features (Tensor): (N, D).
        train_labels (Tensor): int64, (N,).
        test_features (Tensor): (M, D).
        k (int): Number of neighbours; all when there are fewer. Defaults to 20.
        temperature (float): Temperature of the weights. Defaults to 0.07.
        batch_size (int): Test images per similarity matrix. Defaults to 256.

    Returns:
        Tensor: Predicted labels, int64, (M,).

    Raises:
        ValueError: If ``k`` or ``temperature`` is not positive or a feature is NaN.
    """
    if k < 1 or temperature <= 0:
        raise ValueError(
            f'k and temperature must be positive, got k={k}, temperature={temperature}'
        )
    check_features(train_features)
    check_features(test_features)
    k = min(k, len(train_features))
    num_classes = int(train_labels.max()) + 1
    train_unit = F.normalize(train_features.float(), dim=1)  # (N, D)
    test_unit = F.normalize(test_features.float(), dim=1)  # (M, D)
    predicted = []
    for queries in test_unit.split(batch_size):
        similarity = queries @ train_unit.T  # (m, N)
        # A stable sort settles ties; topk leaves their order open.
        nearest, order = similarity.sort(dim=1, descending=True, stable=True)
        # Less the highest similarity, which changes no vote and cannot overflow.
        weights = ((nearest[:, :k] - nearest[:, :1]) / temperature).exp()  # (m, k)
        votes = weights.new_zeros(len(queries), num_classes)
        votes.scatter_add_(1, train_labels[order[:, :k]], weights)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy of :func:`knn_predict`.

    Args:
        train_features (Tensor): (N, D).
        train_labels (Tensor): int64, (N,).
        test_features (Tensor): (M, D).
        test_labels (Tensor): int64, (M,).
        k (int): Number of neighbours. Defaults to 20.
        temperature (float): Temperature of the weights. Defaults to 0.07.

    Returns:
        float: Top-1 accuracy in percent.
    """
    predicted = knn_predict(train_features, train_labels, test_features, k, temperature)
    return accuracy(predicted, test_labels)


def linear_probe_predict(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    c: float = LINEAR_PROBE_C,
) -> Tensor:
    """Classify by multinomial logistic regression.

    Features are standardised by the mean and deviation of the training features.
    The solver (L-BFGS from zero) is deterministic.

    Args:
        train_features (Tensor): (N, D).
        train_labels (Tensor): int64, (N,).
        test_features (Tensor): (M, D).
        c (float): Inverse strength of the L2 penalty, relative to the summed
            loss. Defaults to ``LINEAR_PROBE_C``.

    Returns:
        Tensor: Predicted labels, int64, (M,).

    Raises:
        ValueError: If a feature is NaN or there is only one training class.
    """
    check_features(train_features)
    check_features(test_features)
    if len(train_labels.unique()) < 2:
        raise ValueError('a linear probe needs training images of at least two classes')
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=c, max_iter=500, random_state=0)
    )
    with warnings.catch_warnings():
        # The last digits of the loss do not change a prediction.
        warnings.simplefilter('ignore', ConvergenceWarning)
        probe.fit(train_features.float().cpu().numpy(), train_labels.cpu().numpy())
    predicted = probe.predict(test_features.float().cpu().numpy())
    return torch.from_numpy(predicted)


def linear_probe_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
) -> float:
    """Accuracy of :func:`linear_probe_predict`.

    Args:
        train_features (Tensor): (N, D).
        train_labels (Tensor): int64, (N,).
        test_features (Tensor): (M, D).
        test_labels (Tensor): int64, (M,).

    Returns:
        float: Top-1 accuracy in percent.
    """
    predicted = linear_probe_predict(train_features, train_labels, test_features)
    return accuracy(predicted, test_labels)
