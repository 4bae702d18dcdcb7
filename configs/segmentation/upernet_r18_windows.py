_base_ = 'upernet_r18_demo.py'

# An example for one's own scenes as they are, without cutting tiles: three-band images
# of any size in data/scenes/images, polygons with a field "class" (or a label raster),
# and the split of the ground that tools/split_dataset.py writes. See
# docs/own_labels.md.
data_root = 'data/scenes'
images = 'images'
labels = dict(path='labels.gpkg', field='class', background='other')
window = 256
max_iters = 2000
num_classes = 3
metainfo = dict(
    classes=('other', 'field', 'forest'),
    palette=[[200, 200, 200], [240, 200, 60], [40, 140, 60]],
)

model = dict(
    data_preprocessor=dict(size=(window, window)),
    decode_head=dict(num_classes=num_classes, loss_decode=dict(class_weight=None)),
    auxiliary_head=dict(num_classes=num_classes, loss_decode=dict(class_weight=None)),
)
train_pipeline = [
    dict(type='ShiftWindow'),
    dict(type='LoadImagery'),
    dict(type='LoadWindowLabels'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
# With the window, by which pictures of a test are named.
meta_keys = (
    *('img_path', 'window', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor'),
    *('flip', 'flip_direction', 'reduce_zero_label'),
)
pack = dict(type='PackSegInputs', meta_keys=meta_keys)
test_pipeline = [dict(type='LoadImagery'), dict(type='LoadWindowLabels'), pack]
tta_pipeline = [
    dict(type='LoadImagery'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='RandomFlip', prob=0.0),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='vertical'),
            ],
            [dict(type='LoadWindowLabels')],
            [pack],
        ],
    ),
]
dataset = dict(
    _delete_=True,
    type='WindowedSegmentation',
    data_root=data_root,
    images=images,
    labels=labels,
    window=window,
    metainfo=metainfo,
)
train_dataloader = dict(
    dataset=dict(aoi='split/train.gpkg', pipeline=train_pipeline, **dataset)
)
val_dataloader = dict(
    dataset=dict(
        aoi='split/test.gpkg', pipeline=test_pipeline, test_mode=True, **dataset
    )
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=10, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=10,
        end=max_iters,
        by_epoch=False,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
