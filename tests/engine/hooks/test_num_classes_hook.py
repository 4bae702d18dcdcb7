# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest
from torch import nn

from cmid_mm.engine.hooks.num_classes_hook import NumClassesHook


def head(count: int) -> nn.Module:
    module = nn.Identity()
    module.num_classes = count
    return module


def check(**heads: nn.Module) -> None:
    model = nn.Module()
    for name, module in {'data_preprocessor': nn.Identity(), **heads}.items():
        model.add_module(name, module)
    dataset = SimpleNamespace(metainfo=dict(classes=('field', 'forest', 'water')))
    loader = SimpleNamespace(dataset=dataset)
    NumClassesHook().before_train(SimpleNamespace(model=model, train_dataloader=loader))


@pytest.mark.parametrize(
    'heads, wrong',
    [
        (dict(head=head(4)), 'model.head'),
        (dict(decode_head=head(2), auxiliary_head=head(3)), 'model.decode_head'),
        (
            dict(decode_head=head(3), auxiliary_head=nn.ModuleList([head(3), head(2)])),
            'model.auxiliary_head.1',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_head_of_other_classes_than_the_data_is_refused(heads, wrong):
    with pytest.raises(ValueError, match=rf'^{wrong}.num_classes is .* has 3 classes'):
        check(**heads)


def test_heads_of_the_classes_of_the_data_and_detectors_are_not():
    check(head=head(3), decode_head=head(3), auxiliary_head=nn.ModuleList([head(3)]))
    check(rpn_head=head(1), head=nn.Identity())
