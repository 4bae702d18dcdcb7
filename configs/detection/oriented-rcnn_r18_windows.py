_base_ = 'oriented-rcnn_r18_demo.py'

# An example for one's own scenes as they are, without cutting tiles: three-band images
# of any size in data/scenes/images, a polygon with a field "class" around each object,
# and the split of the ground that tools/split_dataset.py --val-ratio writes. See
# docs/own_labels.md.
data_root = 'data/scenes'
images = 'images'
labels = dict(path='objects.gpkg', field='class')
window = 512
overlap = 100  # the longest object, in pixels
crop_size = 256
classes = ('plane', 'ship', 'vehicle')

model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
# More than 1 where objects have few pixels.
resize = dict(type='mmdet.Resize', scale_factor=1.0)
# After the resize in a test: boxes are compared in pixels of the scene.
load_boxes = [
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
]
# With the window, by which pictures of a test are named.
meta_keys = (*_base_.meta_keys, 'window')
train_pipeline = [
    dict(type='LoadImagery'),
    *load_boxes,
    resize,
    dict(type='mmdet.RandomCrop', crop_size=(crop_size, crop_size)),
    *_base_.train_pipeline[-2:],  # flips, and packing
]
test_pipeline = [
    dict(type='LoadImagery'),
    resize,
    *load_boxes,
    dict(type='mmdet.PackDetInputs', meta_keys=meta_keys),
]
tta_pipeline = [
    dict(type='LoadImagery'),
    dict(
        type='TestTimeAug',
        transforms=[
            [resize],
            [
                dict(type='mmdet.RandomFlip', prob=0.0),
                dict(type='mmdet.RandomFlip', prob=1.0, direction='horizontal'),
                dict(type='mmdet.RandomFlip', prob=1.0, direction='vertical'),
            ],
            [load_boxes[0]],
            [load_boxes[1]],
            [
                dict(
                    type='mmdet.PackDetInputs',
                    meta_keys=(*meta_keys, 'flip', 'flip_direction'),
                )
            ],
        ],
    ),
]
dataset = dict(
    _delete_=True,
    type='WindowedOrientedBoxes',
    data_root=data_root,
    images=images,
    labels=labels,
    window=window,
    overlap=overlap,
    metainfo=dict(classes=classes),
)
evaluated = dict(pipeline=test_pipeline, test_mode=True, **dataset)
train_dataloader = dict(
    dataset=dict(aoi='split/train.gpkg', pipeline=train_pipeline, **dataset)
)
val_dataloader = dict(dataset=dict(aoi='split/val.gpkg', **evaluated))
test_dataloader = dict(dataset=dict(aoi='split/test.gpkg', **evaluated))
val_evaluator = dict(iou_thrs=[0.5])
test_evaluator = val_evaluator
