_base_ = [
    '../_base_/models/mocov2_r50.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/selfsup_sgd_200e.py',
    '../_base_/baseline_runtime.py',
]
