_base_ = [
    '../_base_/models/oriented-rcnn_r50.py',
    '../_base_/datasets/dota_ms.py',
    '../_base_/schedules/detection_sgd_12e.py',
    '../_base_/detection_runtime.py',
]
