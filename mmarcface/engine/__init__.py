from .hooks import RecomputeStatisticsHook, ResultsTableHook

__all__ = ['RecomputeStatisticsHook', 'ResultsTableHook']
