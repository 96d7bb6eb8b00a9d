"""Task starter of the chaos federation: it has loaded what a ServerApp needs, and forks one off for each task."""

from __future__ import annotations

import os
import signal
import sys

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

from fedward.server.starter import run_task, take_tasks
from fedward.simulations.chaos import coordinator

PRELOADED = (coordinator,)


class ForkingExecutor(SubprocessExecutor):  # type: ignore[misc]  # mypy does not follow flwr
    """Starts a run's ServerApp as a copy of this process."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """See flwr's ``SubprocessExecutor``."""
        if spec.task_type is not TaskType.SERVER_APP:
            return LaunchResult.failed("Only ServerApps run here.")
        parent = str(os.getpid())
        if os.fork() == 0:
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            status = 1
            try:
                run_task(spec.runtime_api_address, parent, spec.token)
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            finally:
                os._exit(status)  # what the parent of the fork has open is not this process's to close
        return LaunchResult.accepted()


def main() -> None:
    """``tasks ADDRESS SECRET_FILE``, as :mod:`fedward.server.starter`."""
    _, address, secret_file = sys.argv[1:]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    take_tasks(address, secret_file, ForkingExecutor())


if __name__ == "__main__":
    main()
