"""Messages that an object logs once."""

import logging
import pickle
from types import SimpleNamespace

from mmarcface.datasets.log_once import log_once


def test_each_object_logs_a_message_once(monkeypatch):
    said = []
    monkeypatch.setattr('mmarcface.datasets.log_once.print_log', lambda *args: said.append(args))
    one, other = SimpleNamespace(), SimpleNamespace()
    for _ in range(3):
        log_once(one, 'a')
        log_once(one, 'b', logging.WARNING)
    log_once(other, 'a')
    copied = pickle.loads(pickle.dumps(one))
    log_once(copied, 'a')
    assert said == [
        ('a', 'current', logging.INFO),
        ('b', 'current', logging.WARNING),
        ('a', 'current', logging.INFO),
    ]
