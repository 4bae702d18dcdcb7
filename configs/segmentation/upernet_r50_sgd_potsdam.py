_base_ = [
    '../_base_/models/upernet_r50.py',
    '../_base_/datasets/potsdam_segmentation.py',
    '../_base_/schedules/segmentation_sgd_50e.py',
    '../_base_/segmentation_runtime.py',
]
