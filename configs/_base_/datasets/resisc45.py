_base_ = 'scenes.py'

# 1:9, the harder of the usual splits; see tools/split_dataset.py for 2:8.
prepared_by = 'resisc45'
dataset = dict(type='RESISC45', data_root='data/resisc45')
data_preprocessor = dict(num_classes=45)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
