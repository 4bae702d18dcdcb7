_base_ = [
    '../_base_/models/upernet_swin-b.py',
    '../_base_/datasets/vaihingen.py',
    '../_base_/schedules/segmentation_adamw_50e.py',
    '../_base_/segmentation_runtime.py',
]
