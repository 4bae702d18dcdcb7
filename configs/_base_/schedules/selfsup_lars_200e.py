# SimCLR (arXiv 2002.05709), and BYOL (arXiv 2006.07733) for 300 epochs: 0.3 for a
# batch of 256; biases and norms without weight decay and adaptation.
excluded = dict(decay_mult=0, lars_exclude=True)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='LARS', lr=0.3, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(
        custom_keys={'bn': excluded, 'bias': excluded, 'downsample.1': excluded}
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
max_epochs = 200
warmup_epochs = 10
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=max_epochs)
