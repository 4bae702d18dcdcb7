_base_ = 'potsdam_segmentation.py'

# Seven classes; zero, no data, is ignored (the data set's default).
prepared_by = 'loveda'
dataset_type = 'LoveDADataset'
data_root = 'data/loveDA'
load_mask = dict(type='LoadIndexMask', num_classes=7)
train_pipeline = [
    dict(type='LoadImagery'),
    load_mask,
    dict(
        type='RandomResize',
        scale=(1024, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=_base_.crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImagery'),
    load_mask,
    dict(type='PackSegInputs'),
]
dataset = dict(type=dataset_type, data_root=data_root, pipeline=test_pipeline)
train_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
