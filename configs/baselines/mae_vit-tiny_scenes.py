_base_ = [
    '../_base_/models/mae_vit-b.py',
    '../_base_/datasets/small_view_pairs.py',
    '../_base_/schedules/cmid_adan_30e.py',
    '../_base_/baseline_runtime.py',
]

data_preprocessor = dict(stack_views=True, channels_last=False)
# Patches of 8 pixels: 144 of them in a view of 96.
patch_size = 8
model = dict(
    backbone=dict(arch='deit-tiny', img_size=_base_.image_size, patch_size=patch_size),
    neck=dict(
        num_patches=(_base_.image_size // patch_size) ** 2,
        patch_size=patch_size,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=2,
        decoder_num_heads=4,
    ),
    head=dict(patch_size=patch_size),
)
