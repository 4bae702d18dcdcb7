_base_ = 'cmid-crops_r18_scenes.py'

# ConvNeXt-V2: responses normalised over the whole map (GRN), no layer scale.
model = dict(
    encoder=dict(
        _delete_=True,
        backbone=dict(
            type='ConvNeXt',
            arch='atto',
            use_grn=True,
            layer_scale_init_value=0.0,
            out_indices=(1, 2, 3),
            gap_before_final_norm=False,
        ),
        insert_after='downsample_layers.0',
        channels=40,
        stride=4,
    ),
    heads=dict(
        reconstruction=dict(in_channels=80),
        contrastive=dict(in_channels=320),
        assignment=dict(in_channels=160),
    ),
)
