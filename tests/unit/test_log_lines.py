import logging
import subprocess
import sys

from fedward.log_lines import OneLine

PROGRAM = """
import logging, threading
logging.getLogger("flwr").addHandler(logging.StreamHandler())
from fedward.log_lines import log_in_lines
log_in_lines()
def fail():
    raise ValueError("patient 123")
try:
    fail()
except ValueError:
    logging.getLogger("flwr").exception("a task failed")
    logging.getLogger("uvicorn.error").exception("a request failed")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
open("/nowhere/at/all")
"""


def test_a_process_logs_and_ends_without_a_traceback():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    lines = ended.stderr.splitlines()
    assert "Traceback" not in ended.stderr and "123" not in ended.stderr
    assert [line.split(" ", 1)[1] for line in lines] == [
        "ERROR a task failed [ValueError]",
        "ERROR a request failed [ValueError]",
        "ERROR a thread ends [ValueError]",
        "ERROR the process ends [FileNotFoundError: No such file or directory]",
    ]
    assert ended.returncode == 1


def test_other_handlers_still_see_the_exception():
    record = logging.LogRecord("fedward", logging.ERROR, __file__, 1, "a\nb", (), (ValueError, ValueError("x"), None))
    assert OneLine().format(record).endswith("ERROR a b [ValueError]")
    assert record.exc_info
