_base_ = 'cmid_r18_scenes.py'

# Continued pre-training on some thousand images: a ResNet-18 predicts from masked views
# what it made of the whole ones before (docs/continued_pretraining.md). Weights are
# those of --backbone-checkpoint. The statistics are ImageNet's; take those of the
# weights.
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
model = dict(
    heads=dict(_delete_=True, distillation=dict(type='FeatureDistillationHead'))
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
custom_hooks = [
    hook for hook in _base_.custom_hooks if hook.type != 'ReconstructionHook'
]
