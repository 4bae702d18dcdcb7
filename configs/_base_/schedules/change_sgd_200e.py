max_epochs = 200
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.002, momentum=0.99, weight_decay=5e-4),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
# Linearly to 0.
param_scheduler = dict(
    type='PolyLR', power=1.0, eta_min=0, end=max_epochs, convert_to_iter_based=True
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
