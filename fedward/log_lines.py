"""Log lines of fedward's processes: one line a record, in UTC, and of an exception its class alone.

Texts of exceptions may quote what a library was reading, and a traceback after every kill of a neighbouring process
buries what an operator looks for. The class stays, so that a bug report still says what it was.
"""

import logging
import sys
import threading
import time
from types import TracebackType


class OneLine(logging.Formatter):
    """A record as one line; a traceback becomes the class of its exception."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`; the record stays as it is for other handlers."""
        short = logging.makeLogRecord(vars(record))
        kind, error = record.exc_info[:2] if record.exc_info else (None, None)
        short.exc_info, short.exc_text, short.stack_info = None, None, None
        line = super().format(short).replace("\n", " ")
        reason = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""  # the system's words
        return f"{line} [{kind.__name__}{reason}]" if kind else line


def log_in_lines(level: int = logging.WARNING) -> None:
    """Makes this process log to standard error in lines, Flower's records among them, and end without a traceback."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    flower = logging.getLogger("flwr")
    flower.setLevel(level)
    flower.handlers.clear()  # its records go where all others go, with the time
    flower.propagate = True
    log = logging.getLogger(__name__)

    def ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.error("the process ends", exc_info=(kind, error, trace))

    def thread_ended(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log.error("a thread ends", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))

    sys.excepthook, threading.excepthook = ended, thread_ended
