_base_ = [
    '../_base_/models/bit_rvsa-vit-b.py',
    '../_base_/datasets/levir-cd.py',
    '../_base_/schedules/change_adamw_200e.py',
    '../_base_/change_detection_runtime.py',
]

# Windows side by side, as figures on 256 x 256 tiles are computed.
model = dict(test_cfg=dict(mode='slide', crop_size=(256, 256), stride=(256, 256)))
