import pytest

from mmarcface.functional import blockwise


@pytest.fixture(params=['reference', 'fused', 'chunked'])
def impl(request, monkeypatch):
    """Each implementation, over several blocks of classes and a smaller last one."""
    monkeypatch.setitem(blockwise.PRODUCTS_PER_BLOCK, 'cpu', 1)
    monkeypatch.setattr(blockwise, 'MIN_CLASSES_PER_BLOCK', 3)
    return request.param
