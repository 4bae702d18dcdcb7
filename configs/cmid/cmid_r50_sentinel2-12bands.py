_base_ = 'cmid_r50_sentinel2.py'

load = dict(bands=None, num_bands=12)
data_preprocessor = dict(
    mean=[
        *(19.19, 22.55, 29.18, 33.09, 41.44, 55.96),
        *(61.77, 64.20, 65.83, 67.46, 60.40, 46.03),
    ],
    std=[
        *(28.25, 29.46, 30.18, 34.89, 34.94, 34.57),
        *(36.12, 37.61, 36.70, 40.35, 37.12, 34.26),
    ],
)
train_pipeline = [
    dict(step, **load) if step.type == 'LoadImagery' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [
    dict(hook, bands=(4, 3, 2)) if hook.type == 'ReconstructionHook' else hook
    for hook in _base_.custom_hooks
]
