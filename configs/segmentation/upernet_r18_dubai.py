_base_ = 'upernet_r18_demo.py'

# An example for one's own tiles of different sizes: aerial scenes of Dubai (Humans in
# the Loop, CC0) with masks of class indexes, 255 for unlabelled pixels. train.txt and
# test.txt list the names without ending.
data_root = 'data/dubai'
num_classes = 5
metainfo = dict(
    classes=('building', 'land', 'road', 'vegetation', 'water'),
    palette=[
        [60, 16, 152],
        [132, 41, 246],
        [110, 193, 228],
        [40, 160, 60],
        [30, 100, 220],
    ],
)
model = dict(
    decode_head=dict(num_classes=num_classes, loss_decode=dict(class_weight=None)),
    auxiliary_head=dict(num_classes=num_classes, loss_decode=dict(class_weight=None)),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(384, 384)),
)

dataset = dict(
    metainfo=metainfo,
    data_root=data_root,
    data_prefix=dict(img_path='img', seg_map_path='ann'),
    img_suffix='.jpg',
    indices=None,
)
train_dataloader = dict(dataset=dict(ann_file='train.txt', **dataset))
val_dataloader = dict(batch_size=1, dataset=dict(ann_file='test.txt', **dataset))
test_dataloader = val_dataloader
