from .embedding_plot import EmbeddingPlotHook
from .inversion import BNPriorInversionHook
from .margins import AdaptiveMarginsHook, MarginScheduleHook
from .recompute_statistics import RecomputeStatisticsHook
from .results_table import ResultsTableHook
from .subcenter import SubCenterHook
from .sync_statistics import SyncStatisticsHook

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
