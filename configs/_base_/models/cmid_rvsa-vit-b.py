_base_ = 'cmid_vit-b.py'

model = dict(
    encoder=dict(backbone=dict(_delete_=True, type='RVSAViT', img_size=224)),
)
