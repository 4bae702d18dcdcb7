# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .cells import Cell, RunConfig, Step, plan
from .checks import check_spec
from .form import SpecError
from .reading import read_spec
from .report import collect, write_report
from .running import CellRunner, check_records, exclusive, is_done, read_record
from .spec import (
    DenseTask,
    FeatureTask,
    Method,
    Pretraining,
    Published,
    Spec,
    TrainedTask,
)

__all__ = [
    'Cell',
    'CellRunner',
    'DenseTask',
    'FeatureTask',
    'Method',
    'Pretraining',
    'Published',
    'RunConfig',
    'Spec',
    'SpecError',
    'Step',
    'TrainedTask',
    'check_records',
    'check_spec',
    'collect',
    'exclusive',
    'is_done',
    'plan',
    'read_record',
    'read_spec',
    'write_report',
]
