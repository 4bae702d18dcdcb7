_base_ = 'cmid_rvsa-vit-b_millionaid.py'

model = dict(encoder=dict(backbone=dict(type='RVSAViTAE')))
