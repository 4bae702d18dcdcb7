_base_ = [
    '../_base_/models/cmid_r50.py',
    '../_base_/datasets/scene_windows.py',
    '../_base_/schedules/cmid_adan_200e.py',
    '../_base_/cmid_runtime.py',
]

# Landsat 8 and 9, Collection 2, Level 2: SR_B1 to SR_B7. Landsat 4 to 7 lack the first:
# leave out its mean and std, and name SR_B1 to SR_B5 and SR_B7 as bands.
load = dict(
    bands=[1, 2, 3, 4, 5, 6, 7],
    # Reflectance 0 to 1: these numbers times 0.0000275, less 0.2.
    value_range=(7273, 43636),
    nodata=0,
)
# Reflectance of the like bands of Sentinel-2 in SSL4EO-S12 (Wang et al., 2023).
data_preprocessor = dict(
    mean=[19.19, 22.55, 29.18, 33.09, 65.83, 60.40, 46.03],
    std=[28.25, 29.46, 30.18, 34.89, 36.70, 37.12, 34.26],
)
train_pipeline = [
    dict(step, **load) if step.type == 'LoadImagery' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(data_root='data/landsat', pipeline=train_pipeline))
custom_hooks = [
    dict(hook, bands=(4, 3, 2)) if hook.type == 'ReconstructionHook' else hook
    for hook in _base_.custom_hooks
]
