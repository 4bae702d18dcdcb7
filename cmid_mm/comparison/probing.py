# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Whether frozen features can be measured as a task says: before the pre-training."""

from pathlib import Path
from typing import Any

from torch import nn

from cmid_mm_cli import value_range_of

from ..evaluation.dense import windows_to_probe
from ..evaluation.dense.encoder import DenseEncoder
from ..evaluation.dense.probe import check_pair
from ..evaluation.features import LabelledFolder, check_test
from ..images import Reading
from ..models.measuring import black_image
from .spec import DenseOptions, DenseTask, FeatureOptions, FeatureTask


def check_data(task: FeatureTask | DenseTask, folder: str, bands: int) -> None:
    """Read the first of the labelled images as the tool will.

    Args:
        task: The task.
        folder: Of its data.
        bands: Those that the backbones take.

    Raises:
        OSError: If something is missing or cannot be read.
        ValueError: If images, labels and options do not go together, or the test is of
            images that are learnt from.
    """
    options = task.options
    loading: dict[str, Any] = dict(
        bands=options.bands, value_range=value_range_of(options.value_range)
    )
    if isinstance(options, DenseOptions):
        _check_windows(options, folder, Reading(bands, gsd=options.gsd, **loading))
    else:
        _check_folders(options, folder, dict(loading, num_bands=bands))


def _check_folders(
    options: FeatureOptions, folder: str, loading: dict[str, Any]
) -> None:
    test_folder = options.train if options.test is None else options.test
    train = LabelledFolder(Path(folder, options.train), options.train_list, **loading)
    test = LabelledFolder(
        Path(folder, test_folder),
        options.test_list,
        train.class_names,
        **loading,
    )
    check_test(train, test)


def _check_windows(options: DenseOptions, folder: str, reading: Reading) -> None:
    how = options.model_dump(
        include={'field', 'layer', 'classes', 'background', 'label_map', 'ignore'},
        exclude_none=True,
    )
    train, test = windows_to_probe(options, how, folder, reading)
    check_pair(train, test)
    for windows in (train, test):
        next(iter(windows))


def check_stages(task: DenseTask, model: nn.Module) -> None:
    """Ask a backbone for the maps that a task measures.

    Raises:
        ValueError: If it does not give them.
    """
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    if not hasattr(preprocessor, 'normalize'):
        return  # told, or measured, by whoever builds such a model
    encoder = DenseEncoder(model.eval(), task.options.stages)
    encoder(black_image(encoder.backbone)[0])
