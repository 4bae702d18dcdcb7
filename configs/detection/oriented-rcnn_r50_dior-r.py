_base_ = [
    '../_base_/models/oriented-rcnn_r50.py',
    '../_base_/datasets/dior-r.py',
    '../_base_/schedules/detection_sgd_12e.py',
    '../_base_/detection_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
