from .hooks import (
    AdaptiveMarginsHook,
    MarginScheduleHook,
    RecomputeStatisticsHook,
    ResultsTableHook,
)

__all__ = [
    'AdaptiveMarginsHook',
    'MarginScheduleHook',
    'RecomputeStatisticsHook',
    'ResultsTableHook',
]
