_base_ = [
    '../_base_/datasets/view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/cmid_runtime.py',
]

# DINOv2's ViT-B/14, pre-trained further on one's own imagery. Mask cells are 2 x 2 of
# its patches.
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
train_pipeline = [
    dict(step, patch_size=28) if step.type == 'MaskPair' else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    type='CMID',
    encoder=dict(
        backbone=dict(
            type='VisionTransformer',
            arch='base',
            img_size=224,
            patch_size=14,
            layer_scale_init_value=1e-5,
            out_type='featmap',
        ),
        insert_after='patch_embed',
        token_std=0.02,
    ),
    heads=dict(distillation=dict(type='FeatureDistillationHead')),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
auto_scale_lr = dict(base_batch_size=64)
custom_hooks = [
    hook for hook in _base_.custom_hooks if hook.type != 'ReconstructionHook'
]
