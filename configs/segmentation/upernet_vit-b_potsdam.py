_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/potsdam_segmentation.py',
    '../_base_/schedules/segmentation_adamw-ld_50e.py',
    '../_base_/segmentation_runtime.py',
]
