# SwAV (arXiv 2006.09882) for small batches: 0.6 for a batch of 256, no warm-up.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='LARS', lr=0.6, momentum=0.9, weight_decay=1e-6),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
max_epochs = 200
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-3,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=max_epochs)
