_base_ = [
    '../_base_/models/simmim_swin-b.py',
    '../_base_/datasets/small_view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/baseline_runtime.py',
]

data_preprocessor = dict(stack_views=True, mask_stride=4, channels_last=False)
# About the size of ResNet-18. The last stage's map of 3 x 3 is one window.
windows = [6, 6, 6, 3]
model = dict(
    backbone=dict(
        _delete_=True,
        type='SimMIMSwinTransformer',
        arch=dict(embed_dims=64, depths=[2, 2, 6, 2], num_heads=[2, 4, 8, 16]),
        img_size=_base_.image_size,
        drop_path_rate=0.0,
        stage_cfgs=[dict(block_cfgs=dict(window_size=window)) for window in windows],
    ),
    neck=dict(in_channels=512),
)
