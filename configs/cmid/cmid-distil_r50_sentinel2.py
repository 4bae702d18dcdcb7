_base_ = 'cmid_r50_sentinel2.py'

# Continued pre-training of weights for RGB on ten bands: the student sees all of them,
# the target B04, B03 and B02, each with mean 0 and deviation 1. Start with
# --backbone-checkpoint rgb.pth --stem 3,2,1,mean,mean,mean,mean,mean,mean,mean
model = dict(
    heads=dict(
        _delete_=True,
        distillation=dict(type='FeatureDistillationHead', target_bands=[2, 1, 0]),
    )
)
max_epochs = 30
warmup_epochs = 1
optim_wrapper = dict(optimizer=dict(lr=4e-4))
auto_scale_lr = dict(base_batch_size=64)
_base_.param_scheduler[0].end = warmup_epochs
_base_.param_scheduler[1].update(begin=warmup_epochs, end=max_epochs)
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [
    hook for hook in _base_.custom_hooks if hook.type != 'ReconstructionHook'
]
