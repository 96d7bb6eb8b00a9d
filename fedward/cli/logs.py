"""The log of a service: one line per event on standard error and in a file of mode 0600.

Only records of fedward are written, and of an exception only its code or class: the texts of libraries may
quote what they were working on.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES = 10 * 1024**2
LOG_FILES = 5


class _Line(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback becomes the class of its exception."""
        kind = record.exc_info[0] if record.exc_info else None
        record.exc_info, record.exc_text, record.stack_info = None, None, None
        line = super().format(record).replace("\n", " ")
        return f"{line} [{kind.__name__}]" if kind else line


def start_log(path: Path) -> None:
    """Sends fedward's records to standard error and to ``path``, and nobody else's anywhere."""
    os.umask(0o077)  # whatever a service writes from here on is for its user alone, rotated logs among it
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handlers: list[logging.Handler] = [
        RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES),
        logging.StreamHandler(sys.stderr),
    ]
    logger = logging.getLogger("fedward")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        handler.setFormatter(_Line("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
        logger.addHandler(handler)
    logging.getLogger().addHandler(logging.NullHandler())
    logging.lastResort = None
