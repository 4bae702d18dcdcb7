_base_ = 'view_pairs.py'

# Any folder of Potsdam tiles; the 6000 x 6000 GeoTIFFs are read in windows.
train_dataloader = dict(dataset=dict(data_root='data/potsdam', tile_size=512))
