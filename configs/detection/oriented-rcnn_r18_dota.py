_base_ = [
    '../_base_/models/oriented-rcnn_r18.py',
    '../_base_/datasets/dota_val.py',
    '../_base_/schedules/detection_adamw_short.py',
    '../_base_/detection_runtime.py',
]

# An example for some images of one's own in DOTA's form, and a CPU: tiles of 512
# pixels, of which training sees a random quarter.
data_root = 'data/split_512'
tile_size = (512, 512)
crop_size = (256, 256)
resize = dict(type='mmdet.Resize', scale=tile_size, keep_ratio=True)

train_pipeline = [
    dict(type='mmdet.RandomCrop', crop_size=crop_size)
    if step.type == 'mmdet.Resize'
    else step
    for step in _base_.train_pipeline
]
val_pipeline = [
    resize if step.type == 'mmdet.Resize' else step for step in _base_.val_pipeline
]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[[resize], *_base_.tta_pipeline[1].transforms[1:]],
    ),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(data_root=data_root, pipeline=val_pipeline))
