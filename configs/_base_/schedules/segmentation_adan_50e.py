# The rate and the clipping are the ResNet-50's; Swin-B configs set their own.
max_epochs = 50
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='BlockwiseAdan', lr=2e-3, betas=(0.98, 0.92, 0.99), weight_decay=0.02
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)),
    ),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=100, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
