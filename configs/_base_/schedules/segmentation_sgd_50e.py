_base_ = 'segmentation_adan_50e.py'

# mmseg's UperNet R50 recipe (schedule_80k.py), over 50 epochs.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=1e-4,
        end=_base_.max_epochs,
        convert_to_iter_based=True,
    )
]
