# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
"""Classes of the data and of the heads."""

import re
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.utils import get_ori_model
from torch.utils.data import DataLoader

#: Heads that tell classes apart, those of detectors aside, which mmdet looks at.
_HEAD = re.compile(r'head|(decode|auxiliary)_head(\.\d+)?')


@HOOKS.register_module()
class NumClassesHook(Hook):
    """Refuse heads with more or fewer classes than the data.

    With fewer, training would stop at the first image of a class that is missing;
    with more, nothing would be noticed. Looks at classifiers and at what segments.

    Raises:
        ValueError: When training, validation or a test begins, if
            ``num_classes`` of a head or of ``data_preprocessor`` is not the number of
            classes of the data set.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training data."""
        self._check(runner, runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Check the validation data."""
        self._check(runner, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check(runner, runner.test_dataloader)

    def _check(self, runner: Runner, loader: DataLoader) -> None:
        model: Any = get_ori_model(runner.model)
        dataset: Any = loader.dataset
        classes = dataset.metainfo['classes']
        owners = {
            f'model.{name}': module
            for name, module in model.named_modules()
            if _HEAD.fullmatch(name)
        }
        owners['data_preprocessor'] = model.data_preprocessor
        counts = {
            name: owner.num_classes
            for name, owner in owners.items()
            if getattr(owner, 'num_classes', None) is not None
        }
        for name, count in counts.items():
            if count != len(classes):
                raise ValueError(
                    f'{name}.num_classes is {count}, but the data set has '
                    f'{len(classes)} classes ({", ".join(classes)}); set '
                    f'num_classes={len(classes)} of {" and ".join(counts)}'
                )
