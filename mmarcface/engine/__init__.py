from .hooks import (
    AdaptiveMarginsHook,
    BNPriorInversionHook,
    EmbeddingPlotHook,
    MarginScheduleHook,
    RecomputeStatisticsHook,
    ResultsTableHook,
    SubCenterHook,
)

__all__ = [
    'AdaptiveMarginsHook',
    'BNPriorInversionHook',
    'EmbeddingPlotHook',
    'MarginScheduleHook',
    'RecomputeStatisticsHook',
    'ResultsTableHook',
    'SubCenterHook',
]
