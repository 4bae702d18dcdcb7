_base_ = [
    '../_base_/models/cmid_r50.py',
    '../_base_/datasets/scene_windows.py',
    '../_base_/schedules/cmid_adan_200e.py',
    '../_base_/cmid_runtime.py',
]

# Backscatter in decibels, VV and VH.
load = dict(num_bands=2, value_range=((-30, 5), (-35, 0)))
# Of SSL4EO-S12 (Wang et al., 2023), scenes of the whole world.
data_preprocessor = dict(mean=[127.15, 107.88], std=[38.30, 43.07])
train_pipeline = [
    dict(step, **load) if step.type == 'LoadImagery' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(
    dataset=dict(data_root='data/sentinel1', pipeline=train_pipeline)
)
