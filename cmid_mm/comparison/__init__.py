# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .cells import Cell, Step, plan
from .report import collect, write_report
from .running import CellRunner, check_records, exclusive, is_done, read_record
from .spec import Method, Pretraining, Published, Spec, SpecError, TaskSpec, read_spec

__all__ = [
    'Cell',
    'CellRunner',
    'Method',
    'Pretraining',
    'Published',
    'Spec',
    'SpecError',
    'Step',
    'TaskSpec',
    'check_records',
    'collect',
    'exclusive',
    'is_done',
    'plan',
    'read_record',
    'read_spec',
    'write_report',
]
