from .hooks import (
    AdaptiveMarginsHook,
    BNPriorInversionHook,
    EmbeddingPlotHook,
    MarginScheduleHook,
    RecomputeStatisticsHook,
    ResultsTableHook,
    SubCenterHook,
    SyncStatisticsHook,
)

__all__ = [
    'AdaptiveMarginsHook',
    'BNPriorInversionHook',
    'EmbeddingPlotHook',
    'MarginScheduleHook',
    'RecomputeStatisticsHook',
    'ResultsTableHook',
    'SubCenterHook',
    'SyncStatisticsHook',
]
