_base_ = 'cmid-distil_r50_scenes.py'

# A ResNet-50 learns on one's own imagery what DINOv2's ViT-B/14 makes of it. It starts
# from --backbone-checkpoint, or anew.
model = dict(
    heads=dict(
        distillation=dict(
            target=dict(
                type='VisionTransformer',
                arch='base',
                img_size=224,
                patch_size=14,
                layer_scale_init_value=1e-5,
                out_type='featmap',
                init_cfg=dict(
                    type='PretrainedBackbone', checkpoint='dinov2_vitb14_pretrain.pth'
                ),
            )
        )
    )
)
