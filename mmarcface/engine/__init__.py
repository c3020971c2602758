from .hooks import (
    AdaptiveMarginsHook,
    BNPriorInversionHook,
    EmbeddingPlotHook,
    MarginScheduleHook,
    RecomputeStatisticsHook,
    ResultsTableHook,
)

__all__ = [
    'AdaptiveMarginsHook',
    'BNPriorInversionHook',
    'EmbeddingPlotHook',
    'MarginScheduleHook',
    'RecomputeStatisticsHook',
    'ResultsTableHook',
]
