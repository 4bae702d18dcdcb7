_base_ = 'view_pairs.py'

# Large rasters: windows at any position, drawn anew in every epoch. An epoch has as
# many as would cover the scenes once; per_epoch states another number.
train_dataloader = dict(
    dataset=dict(type='SceneWindows', data_root='data/scenes', tile_size=256)
)
