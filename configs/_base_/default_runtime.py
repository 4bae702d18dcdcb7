default_scope = 'mmpretrain'
custom_imports = dict(imports=['cmid_mm'])

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='VerifiedCheckpointHook', interval=10, max_keep_ckpts=3),
    log_history=dict(type='LogHistoryHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    input_bands=dict(type='InputBandsHook'),
    step_guard=dict(type='StepGuardHook'),
    preemption=dict(type='PreemptionHook'),
)
custom_hooks = [dict(type='UnreadableImagesHook'), dict(type='ThroughputHook')]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0)
