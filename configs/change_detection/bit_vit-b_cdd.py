_base_ = [
    '../_base_/models/bit_vit-b.py',
    '../_base_/datasets/cdd.py',
    '../_base_/schedules/change_adamw_200e.py',
    '../_base_/change_detection_runtime.py',
]
