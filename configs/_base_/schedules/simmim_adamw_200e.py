# SimMIM (arXiv 2111.09886), 100 epochs: 2e-4 for each 512 images, from 1e-6 to 1e-5. A
# batch of 256 images is 512 views, each an image to SimMIM.
no_decay = dict(decay_mult=0)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        custom_keys=dict(
            norm=no_decay,
            bias=no_decay,
            relative_position_bias_table=no_decay,
        )
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
max_epochs = 200
warmup_epochs = 10
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=5e-3,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.05,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='ResumableTrainLoop', max_epochs=max_epochs)
