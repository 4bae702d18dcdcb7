_base_ = [
    '../_base_/models/simclr_r50.py',
    '../_base_/datasets/small_view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/baseline_runtime.py',
]

model = dict(backbone=dict(depth=18), neck=dict(in_channels=512))
