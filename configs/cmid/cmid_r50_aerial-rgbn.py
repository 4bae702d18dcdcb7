_base_ = [
    '../_base_/models/cmid_r50.py',
    '../_base_/datasets/scene_windows.py',
    '../_base_/schedules/cmid_adan_200e.py',
    '../_base_/cmid_runtime.py',
]

# Aerial photographs of 8 bits: red, green, blue, near infrared.
load = dict(num_bands=4)
# Of FLAIR (Garioud et al., 2022), France at 0.2 m.
data_preprocessor = dict(
    mean=[105.08, 110.87, 101.82, 106.38], std=[52.17, 45.38, 44.00, 39.69]
)
train_pipeline = [
    dict(step, **load) if step.type == 'LoadImagery' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(data_root='data/aerial', pipeline=train_pipeline))
