_base_ = 'segmentation_adan_50e.py'

# mmseg's UperNet Swin recipe over 50 epochs, with 100 instead of 1500 warm-up
# iterations: Vaihingen has 2150 iterations.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            relative_position_bias_table=dict(decay_mult=0.0),
            norm=dict(decay_mult=0.0),
        )
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=100, by_epoch=False),
    dict(
        type='PolyLR',
        power=1.0,
        eta_min=0.0,
        end=_base_.max_epochs,
        convert_to_iter_based=True,
    ),
]
