# 0.001 per GPU of 64 images: 0.004 for a batch of 256.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='MatrixDecayConstructor',
    optimizer=dict(
        type='BlockwiseAdan', lr=4e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
max_epochs = 200
warmup_epochs = 10
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
train_cfg = dict(type='ResumableTrainLoop', max_epochs=max_epochs)
