# Trains on train and val, 11725 images, and measures on test, 11738 images.
prepared_by = 'dior-r'
dataset_type = 'DIORDataset'
data_root = 'data/DIOR'
image_size = (800, 800)

train_pipeline = [
    dict(type='LoadImagery'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    # Boxes without area would make the loss infinite.
    dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(0.1, 0.1), keep_empty=False),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    dict(
        type='mmdet.RandomFlip',
        prob=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal'],
    ),
    dict(type='mmdet.PackDetInputs'),
]
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
test_pipeline = [
    dict(type='LoadImagery'),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    # After the resize: boxes are compared in pixels of the file.
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
mirror_images = [
    dict(type='mmdet.RandomFlip', prob=0.0),
    dict(type='mmdet.RandomFlip', prob=1.0, direction='horizontal'),
    dict(type='mmdet.RandomFlip', prob=1.0, direction='vertical'),
]
tta_pipeline = [
    dict(type='LoadImagery'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='mmdet.Resize', scale=image_size, keep_ratio=True)],
            mirror_images,
            [dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox')],
            [dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox'))],
            [
                dict(
                    type='mmdet.PackDetInputs',
                    meta_keys=(*meta_keys, 'flip', 'flip_direction'),
                )
            ],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Main/trainval.txt',
        data_prefix=dict(img_path='JPEGImages-trainval'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Main/test.txt',
        data_prefix=dict(img_path='JPEGImages-test'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='InProcessDOTAMetric')
test_cfg = dict(type='TestLoop')
