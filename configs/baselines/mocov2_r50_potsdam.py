_base_ = [
    '../_base_/models/mocov2_r50.py',
    '../_base_/datasets/potsdam.py',
    '../_base_/schedules/selfsup_sgd_400e.py',
    '../_base_/baseline_runtime.py',
]
