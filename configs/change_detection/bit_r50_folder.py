_base_ = [
    '../_base_/models/bit_r50.py',
    '../_base_/datasets/change_pairs.py',
    '../_base_/schedules/change_sgd_200e.py',
    '../_base_/change_detection_runtime.py',
]

# Your own pairs, of any size: --data-root names the folder with train, val and test.
model = dict(test_cfg=dict(mode='slide', crop_size=(256, 256), stride=(192, 192)))
