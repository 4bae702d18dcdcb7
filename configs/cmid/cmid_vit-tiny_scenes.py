_base_ = 'cmid_r18_scenes.py'

# Patches of 8 pixels: 12 x 12 of them in a view of 96. For short runs: own keys in the
# batch, as in cmid-crops_r18_scenes.py.
model = dict(
    channels_last=False,
    joint_views=True,
    momentum=None,
    momentum_half_life=0.05,
    encoder=dict(
        _delete_=True,
        backbone=dict(
            type='VisionTransformer',
            arch='deit-tiny',
            img_size=_base_.image_size,
            patch_size=8,
            out_type='featmap',
        ),
        insert_after='patch_embed',
        channels=192,
        stride=8,
        token_std=0.02,
    ),
    heads=dict(
        reconstruction=dict(in_channels=192, stride=8, loss_weight=0.1),
        contrastive=dict(
            in_channels=192,
            teacher_keys_from=None,
            queue_size=0,
            in_batch=True,
            projector_norm=True,
            out_channels=128,
        ),
        assignment=dict(
            in_channels=192, batch_norm=False, num_matches=36, loss_weight=0.2
        ),
    ),
)
