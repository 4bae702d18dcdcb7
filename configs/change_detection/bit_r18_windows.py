_base_ = 'bit_r18_demo.py'

# An example for one's own scenes of two dates as they are, without cutting tiles:
# three-band images of any size in data/scenes/before and data/scenes/after, named in
# the same order, polygons around what changed (or a label raster), and the split of
# the ground that tools/split_dataset.py --val-ratio writes. See docs/own_labels.md.
data_root = 'data/scenes'
images, images2 = 'before', 'after'
labels = dict(path='changes.gpkg', background='unchanged')
window = 256
max_iters = 2000

model = dict(data_preprocessor=dict(size=(window, window)))
load_pair = dict(type='LoadImagePair')
load_labels = dict(type='LoadWindowLabels')
train_pipeline = [
    dict(type='ShiftWindow'),
    load_pair,
    load_labels,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='RandomRotate90'),
    dict(type='PackSegInputs'),
]
# With the window, by which pictures of a test are named.
meta_keys = (
    *('img_path', 'img_path2', 'window', 'ori_shape', 'img_shape', 'pad_shape'),
    *('scale_factor', 'flip', 'flip_direction'),
)
pack = dict(type='PackSegInputs', meta_keys=meta_keys)
test_pipeline = [load_pair, load_labels, pack]
tta_pipeline = [
    load_pair,
    dict(
        type='TestTimeAug',
        transforms=[_base_.tta_pipeline[1].transforms[0], [load_labels], [pack]],
    ),
]
dataset = dict(
    _delete_=True,
    type='WindowedChangeDetection',
    data_root=data_root,
    images=images,
    images2=images2,
    labels=labels,
    window=window,
)
evaluated = dict(pipeline=test_pipeline, test_mode=True, **dataset)
loading = dict(num_workers=2, persistent_workers=True)
train_dataloader = dict(
    dataset=dict(aoi='split/train.gpkg', pipeline=train_pipeline, **dataset), **loading
)
val_dataloader = dict(dataset=dict(aoi='split/val.gpkg', **evaluated), **loading)
test_dataloader = dict(dataset=dict(aoi='split/test.gpkg', **evaluated), **loading)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=20, by_epoch=False),
    dict(type='PolyLR', power=1.0, begin=20, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
