_base_ = [
    '../_base_/models/swav_r50.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/swav_lars_200e.py',
    '../_base_/baseline_runtime.py',
]

sync_bn = 'torch'
