# MAE (arXiv 2111.06377): 1.5e-4 for each 256 images. A batch of 256 images is 512
# views, each an image to MAE.
no_decay = dict(decay_mult=0)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=3e-4, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys=dict(
            ln=no_decay,
            bias=no_decay,
            pos_embed=no_decay,
            mask_token=no_decay,
            cls_token=no_decay,
        )
    ),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
max_epochs = 200
warmup_epochs = 40
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
