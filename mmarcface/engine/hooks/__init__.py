from .results_table import ResultsTableHook

__all__ = ['ResultsTableHook']
