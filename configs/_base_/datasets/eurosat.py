_base_ = 'scenes.py'

# 8:2. Images of 64 pixels, enlarged to the size of the pre-training.
prepared_by = 'eurosat'
dataset = dict(type='EuroSAT', data_root='data/eurosat')
data_preprocessor = dict(num_classes=10)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
