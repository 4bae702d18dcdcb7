_base_ = 'cmid_adan_200e.py'

# For batches of 32 images.
max_epochs = 30
warmup_epochs = 1
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=32)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
