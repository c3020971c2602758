import pytest

from mmarcface.functional import class_sums


@pytest.fixture(params=['reference', 'fused', 'chunked'])
def impl(request, monkeypatch):
    """Each implementation, over several blocks of classes and a smaller last one."""
    monkeypatch.setitem(class_sums.PRODUCTS_PER_BLOCK, 'cpu', 1)
    monkeypatch.setattr(class_sums, 'FEWEST_CLASSES', 3)
    return request.param
