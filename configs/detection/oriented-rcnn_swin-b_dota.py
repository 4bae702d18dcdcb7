_base_ = [
    '../_base_/models/oriented-rcnn_swin-b.py',
    '../_base_/datasets/dota.py',
    '../_base_/schedules/detection_adamw_12e.py',
    '../_base_/detection_runtime.py',
]
