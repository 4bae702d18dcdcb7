_base_ = [
    '../_base_/models/swav_r50.py',
    '../_base_/datasets/small_view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/baseline_runtime.py',
]

model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=512, hid_channels=1024),
    head=dict(
        loss=dict(num_prototypes=512, queue_length=1024, queue_start_epoch=2),
    ),
)
