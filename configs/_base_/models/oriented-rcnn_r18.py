_base_ = 'oriented-rcnn_r50.py'

# Narrow, without the last stage, and trained from its first layer on: for short runs
# on few images with small objects.
channels = 64
strides = [4, 8, 16]

model = dict(
    backbone=dict(
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        frozen_stages=-1,
        norm_eval=False,
    ),
    neck=dict(
        in_channels=[64, 128, 256],
        out_channels=channels,
        num_outs=4,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[5], strides=[*strides, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            out_channels=channels, featmap_strides=strides, finest_scale=28
        ),
        bbox_head=dict(in_channels=channels, fc_out_channels=256),
    ),
    # First proposals overlap little: they are taken as positive earlier.
    train_cfg=dict(
        rpn=dict(assigner=dict(pos_iou_thr=0.5)),
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(
            assigner=dict(pos_iou_thr=0.3, neg_iou_thr=0.3, min_pos_iou=0.3),
            sampler=dict(num=64, pos_fraction=0.5),
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(nms_pre=1000, max_per_img=300),
    ),
)
