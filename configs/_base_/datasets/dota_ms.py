_base_ = 'dota.py'

# Tiles cut at three scales, and turned by any angle: storage tanks and roundabouts
# (classes 9 and 11) have no angle, tiles with them are turned by right angles.
prepared_by = 'dota-ms'
data_root = 'data/split_ms_dota'

train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='RandomRotate', prob=0.5, angle_range=180, rect_obj_labels=[9, 11]),
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(data_root=data_root))
