prepared_by = 'potsdam'
dataset_type = 'FiveClassISPRSDataset'
data_root = 'data/potsdam'
tile_size = (512, 512)
crop_size = (512, 512)

train_pipeline = [
    dict(type='LoadImagery'),
    dict(type='LoadIndexMask'),
    dict(type='RandomResize', scale=tile_size, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImagery'),
    dict(type='LoadIndexMask'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/train', seg_map_path='ann_dir/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='img_dir/val', seg_map_path='ann_dir/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# Without nan_to_num, a class that is never predicted would be left out of mFscore.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore'], nan_to_num=0)
test_evaluator = val_evaluator
