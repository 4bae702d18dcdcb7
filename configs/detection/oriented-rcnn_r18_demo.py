_base_ = [
    '../_base_/models/oriented-rcnn_r18.py',
    '../_base_/schedules/detection_adamw_short.py',
    '../_base_/detection_runtime.py',
]

# Some minutes on one CPU core, on the procedural scenes that tools/make_demo_data.py
# writes. Cars are 4 x 9 pixels there: images are enlarged, training sees crops.
data_root = 'demo/tasks/detection'
classes = ('small-vehicle', 'large-vehicle', 'ship')
image_size = 640
crop_size = 256

model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))

train_pipeline = [
    dict(type='LoadImagery'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(image_size, image_size)),
    dict(type='mmdet.RandomCrop', crop_size=(crop_size, crop_size)),
    dict(
        type='mmdet.RandomFlip',
        prob=0.75,
        direction=['horizontal', 'vertical', 'diagonal'],
    ),
    dict(type='mmdet.PackDetInputs'),
]
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
test_pipeline = [
    dict(type='LoadImagery'),
    dict(type='mmdet.Resize', scale=(image_size, image_size)),
    # After the resize: boxes are compared in pixels of the file.
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='OrientedBoxFolder',
        metainfo=dict(classes=classes),
        data_root=data_root,
        ann_file='train/labelTxt',
        data_prefix=dict(img_path='train/images'),
        filter_cfg=dict(filter_empty_gt=True),
        indices=40,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='OrientedBoxFolder',
        metainfo=dict(classes=classes),
        data_root=data_root,
        ann_file='test/labelTxt',
        data_prefix=dict(img_path='test/images'),
        test_mode=True,
        indices=50,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# A short run learns where objects are before it learns their angles: AP at IoU 0.3 too.
val_evaluator = dict(type='InProcessDOTAMetric', iou_thrs=[0.3, 0.5])
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=20))
