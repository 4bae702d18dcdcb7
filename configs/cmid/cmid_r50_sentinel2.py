_base_ = [
    '../_base_/models/cmid_r50.py',
    '../_base_/datasets/scene_windows.py',
    '../_base_/schedules/cmid_adan_200e.py',
    '../_base_/cmid_runtime.py',
]

# Products of Level-2A, without B01 and B09, which show the air. For files of just these
# ten bands without names: bands=None, num_bands=10.
load = dict(
    bands=['B02', 'B03', 'B04', 'B05', 'B06', 'B07', 'B08', 'B8A', 'B11', 'B12'],
    # Reflectance 0 to 1. In products since January 2022, 0 is 1000: (1000, 11000).
    value_range=(0, 10000),
    nodata=0,
)
# Of SSL4EO-S12 (Wang et al., 2023), scenes of the whole world.
data_preprocessor = dict(
    mean=[22.55, 29.18, 33.09, 41.44, 55.96, 61.77, 64.20, 65.83, 60.40, 46.03],
    std=[29.46, 30.18, 34.89, 34.94, 34.57, 36.12, 37.61, 36.70, 37.12, 34.26],
)
train_pipeline = [
    dict(step, **load) if step.type == 'LoadImagery' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(
    dataset=dict(data_root='data/sentinel2', pipeline=train_pipeline)
)
custom_hooks = [
    dict(hook, bands=(3, 2, 1)) if hook.type == 'ReconstructionHook' else hook
    for hook in _base_.custom_hooks
]
