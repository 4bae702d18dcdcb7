_base_ = 'cmid_r18_scenes.py'

# All three branches, for short runs on few images; docs/results.md says what each
# change brought. The contrast of both views' own projections instead of a slow
# teacher's, two small crops, half of the views masked, and local branches on the
# earlier stages, which leave the last one to meaning. Four crops teach more an epoch,
# two more an hour.
train_pipeline = [
    {
        **step,
        **dict(
            ViewPair=dict(num_crops=2, crop_size=48, crop_area=(0.1, 0.5)),
            MaskPair=dict(share=0.5),
        ).get(step.type, {}),
    }
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
model = dict(
    joint_views=True,
    momentum=None,
    momentum_half_life=0.05,
    encoder=dict(backbone=dict(out_indices=(1, 2, 3))),
    heads=dict(
        reconstruction=dict(stage=-3, in_channels=128, stride=8, hidden_channels=128),
        contrastive=dict(
            teacher_keys_from=None,
            queue_size=0,
            in_batch=True,
            projector_norm=True,
            out_channels=128,
        ),
        assignment=dict(
            stage=-2,
            in_channels=256,
            hidden_channels=512,
            num_matches=18,
            loss_weight=0.2,
        ),
    ),
)
