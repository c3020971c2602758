from .margins import AdaptiveMarginsHook, MarginScheduleHook
from .recompute_statistics import RecomputeStatisticsHook
from .results_table import ResultsTableHook

__all__ = [
    'AdaptiveMarginsHook',
    'MarginScheduleHook',
    'RecomputeStatisticsHook',
    'ResultsTableHook',
]
