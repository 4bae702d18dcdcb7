_base_ = 'cmid_vit-tiny_scenes.py'

# And the pooled features of a batch kept apart (KoLeo).
model = dict(heads=dict(spread=dict(type='SpreadHead', loss_weight=0.1)))
