_base_ = [
    '../_base_/models/cmid_r50.py',
    '../_base_/datasets/view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/cmid_runtime.py',
]

# Continued pre-training: the backbone predicts from masked views what it made of the
# whole ones before (docs/continued_pretraining.md). Weights are those of
# --backbone-checkpoint. The statistics are ImageNet's; take those of the weights.
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
model = dict(
    heads=dict(_delete_=True, distillation=dict(type='FeatureDistillationHead'))
)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [
    hook for hook in _base_.custom_hooks if hook.type != 'ReconstructionHook'
]
