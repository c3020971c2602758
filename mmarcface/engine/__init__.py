from .hooks import ResultsTableHook

__all__ = ['ResultsTableHook']
