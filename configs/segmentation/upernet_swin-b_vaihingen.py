_base_ = [
    '../_base_/models/upernet_swin-b.py',
    '../_base_/datasets/vaihingen.py',
    '../_base_/schedules/segmentation_adan_50e.py',
    '../_base_/segmentation_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=3e-4), clip_grad=None)
