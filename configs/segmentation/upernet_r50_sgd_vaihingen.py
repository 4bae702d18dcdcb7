_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/vaihingen.py',
    '../_base_/schedules/segmentation_sgd_50e.py',
    '../_base_/segmentation_runtime.py',
]
