# Trains on the tiles of train and val; testing writes the submission for DOTA's
# server, since the labels of test are not public. dota_val.py holds val out.
prepared_by = 'dota'
dataset_type = 'OrientedBoxFolder'
data_root = 'data/split_ss_dota'
image_size = (1024, 1024)

train_pipeline = [
    dict(type='LoadImagery'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
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
        ann_file='trainval/annfiles',
        data_prefix=dict(img_path='trainval/images'),
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
        data_prefix=dict(img_path='test/images'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='DOTASubmission', outfile_prefix='work_dirs/dota_submission')
test_cfg = dict(type='TestLoop')
