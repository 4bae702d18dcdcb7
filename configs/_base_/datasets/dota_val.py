_base_ = 'dota.py'

# Trains on train and measures on val.
val_pipeline = [
    dict(type='LoadImagery'),
    dict(type='mmdet.Resize', scale=_base_.image_size, keep_ratio=True),
    # After the resize: boxes are compared in pixels of the file.
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=_base_.meta_keys),
]
tta_pipeline = [
    dict(type='LoadImagery'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmdet.Resize', scale=_base_.image_size, keep_ratio=True)],
            _base_.mirror_images,
            [dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox')],
            [dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox'))],
            [
                dict(
                    type='mmdet.PackDetInputs',
                    meta_keys=(*_base_.meta_keys, 'flip', 'flip_direction'),
                )
            ],
        ],
    ),
]
train_dataloader = dict(
    dataset=dict(ann_file='train/annfiles', data_prefix=dict(img_path='train/images'))
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=_base_.dataset_type,
        data_root=_base_.data_root,
        ann_file='val/annfiles',
        data_prefix=dict(img_path='val/images'),
        test_mode=True,
        pipeline=val_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='InProcessDOTAMetric')
test_evaluator = dict(_delete_=True, type='InProcessDOTAMetric')
val_cfg = dict(type='ValLoop')
