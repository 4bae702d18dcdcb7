_base_ = 'cmid_r18_scenes.py'

# Some minutes on two CPU cores, on the procedural scenes that `make demo` writes.
data_root = 'demo/data/scene'
max_epochs = 4

model = dict(
    heads=dict(
        contrastive=dict(hidden_channels=512), assignment=dict(hidden_channels=512)
    )
)
train_dataloader = dict(dataset=dict(data_root=f'{data_root}/train'))
_base_.param_scheduler[1].end = max_epochs
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    dict(type='TeacherUpdateHook'),
    dict(type='UnreadableImagesHook'),
    dict(type='ThroughputHook'),
    dict(type='ReconstructionHook', interval=max_epochs),
    dict(
        type='FeatureEvaluationHook',
        train=dict(root=f'{data_root}/train'),
        test=dict(root=f'{data_root}/test'),
        interval=max_epochs,
        size=96,
        num_workers=0,
    ),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=max_epochs, max_keep_ckpts=1)
)
