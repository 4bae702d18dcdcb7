_base_ = 'segmentation_adamw_50e.py'

# As published for RVSA, but for the length and the warm-up.
optim_wrapper = dict(
    constructor='BackboneLayerDecayConstructor',
    optimizer=dict(weight_decay=0.05),
    paramwise_cfg=dict(
        _delete_=True,
        layer_decay_rate=0.9,
        flat_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            rel_pos_=dict(decay_mult=0.0),
            relative_position_bias_table=dict(decay_mult=0.0),
        ),
    ),
)
