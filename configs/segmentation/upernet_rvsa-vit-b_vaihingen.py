_base_ = [
    '../_base_/models/upernet_rvsa-vit-b.py',
    '../_base_/datasets/vaihingen.py',
    '../_base_/schedules/segmentation_adamw-ld_50e.py',
    '../_base_/segmentation_runtime.py',
]
