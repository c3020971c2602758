from .recompute_statistics import RecomputeStatisticsHook
from .results_table import ResultsTableHook

__all__ = ['RecomputeStatisticsHook', 'ResultsTableHook']
