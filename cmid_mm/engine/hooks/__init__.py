# Copyright (c) cmid_mm contributors. SPDX-License-Identifier: Apache-2.0
from .collapse_hook import CollapseHook
from .compile_hook import CompileHook
from .confusion_matrix_hook import ConfusionMatrixHook
from .dense_evaluation_hook import DenseEvaluationHook
from .feature_evaluation_hook import FeatureEvaluationHook
from .fixed_predictor_rate_hook import FixedPredictorRateHook
from .input_bands_hook import InputBandsHook
from .log_history_hook import LogHistoryHook
from .num_classes_hook import NumClassesHook
from .preemption_hook import PreemptionHook
from .reconstruction_hook import ReconstructionHook
from .step_guard_hook import SickTrainingError, StepGuardHook
from .teacher_update_hook import TeacherUpdateHook
from .throughput_hook import ThroughputHook
from .unreadable_images_hook import UnreadableImagesHook
from .verified_checkpoint_hook import VerifiedCheckpointHook

__all__ = [
    'CollapseHook',
    'CompileHook',
    'ConfusionMatrixHook',
    'DenseEvaluationHook',
    'FeatureEvaluationHook',
    'FixedPredictorRateHook',
    'InputBandsHook',
    'LogHistoryHook',
    'NumClassesHook',
    'PreemptionHook',
    'ReconstructionHook',
    'SickTrainingError',
    'StepGuardHook',
    'TeacherUpdateHook',
    'ThroughputHook',
    'UnreadableImagesHook',
    'VerifiedCheckpointHook',
]
