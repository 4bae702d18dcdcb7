_base_ = [
    '../_base_/models/oriented-rcnn_vit-b.py',
    '../_base_/datasets/dota.py',
    '../_base_/schedules/detection_adamw-ld_12e.py',
    '../_base_/detection_runtime.py',
]
