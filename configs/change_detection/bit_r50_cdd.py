_base_ = [
    '../_base_/models/bit_r50.py',
    '../_base_/datasets/cdd.py',
    '../_base_/schedules/change_sgd_200e.py',
    '../_base_/change_detection_runtime.py',
]
