_base_ = [
    '../_base_/models/byol_r50.py',
    '../_base_/datasets/potsdam.py',
    '../_base_/schedules/selfsup_lars_400e.py',
    '../_base_/baseline_runtime.py',
]

sync_bn = 'torch'
