"""Messages that an object logs once, however often their cause comes up."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log


def log_once(owner: Any, message: str, level: int = logging.INFO) -> None:
    """Log a message, unless the object has logged the same one before.

    Args:
        owner: object that remembers its messages, such as a data set or a transform.
        message: message to log.
        level: level of the log.
    """
    logged = vars(owner).setdefault('_logged', set())
    if message not in logged:
        logged.add(message)
        print_log(message, 'current', level)
