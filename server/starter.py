"""Task starter of the SuperLink: one ServerApp process per run, whose token is in no argument and no environment.

flwr's own ``flower-superexec`` gives a ServerApp its task token as an argument, which every user of the machine can
read (``/proc/PID/cmdline``). Whoever has it may list the nodes, pull the run's input and push a result in its place.
These two programs are flwr's, with one thing between them exchanged: the token goes through a pipe.

    python -m fedward.server.starter tasks ADDRESS SECRET_FILE     takes tasks until its parent ends
    python -m fedward.server.starter serverapp ADDRESS PARENT      runs one task, whose token it reads from its input
"""

import os
import subprocess
import sys

from flwr.supercore.auth import load_superexec_auth_secret
from flwr.supercore.constant import TaskType
from flwr.supercore.superexec import run_superexec as flower
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor
from flwr.supercore.utils import disable_process_dumping
from flwr.superlink.cli import flwr_serverapp

from fedward.log_lines import log_in_lines

MAX_TOKEN_BYTES = 4096


class PipingExecutor(SubprocessExecutor):  # type: ignore[misc]  # mypy does not follow flwr
    """Starts a run's ServerApp as flwr does, but for the token; a coordinator has no tasks of another kind."""

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """See flwr's ``SubprocessExecutor``."""
        if spec.task_type is not TaskType.SERVER_APP:
            return LaunchResult.failed("Only ServerApps run here.")
        command = [*PROGRAM, "serverapp", spec.runtime_api_address, str(os.getpid())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if process.stdin is not None:
            with process.stdin as pipe:
                pipe.write(spec.token.encode("ascii") + b"\n")
        return LaunchResult.accepted()


PROGRAM = (sys.executable, "-P", "-m", "fedward.server.starter")
"""-P keeps the working folder out of the module path."""


def main() -> None:
    """One of the two programs; see the module."""
    disable_process_dumping(strict=False)
    log_in_lines()
    program, address, last = sys.argv[1:]
    if program == "tasks":
        take_tasks(address, last, PipingExecutor())
        return
    run_task(address, last, sys.stdin.buffer.readline(MAX_TOKEN_BYTES).decode("ascii").strip())


def take_tasks(address: str, secret_file: str, executor: SubprocessExecutor) -> None:
    """Has ``executor`` start a process for each task of the SuperLink behind ``address``, until the parent ends."""
    flower.get_executor = lambda *_, **__: executor
    flower.run_superexec(
        runtime_api_address=address,
        insecure=True,
        superexec_auth_secret=load_superexec_auth_secret(secret_file),
        parent_pid=os.getppid(),
        runtime_dependency_install=False,
    )


def run_task(address: str, parent: str, token: str) -> None:
    """Runs the one task of ``token``, and ends with the process ``parent``."""
    # Of the interpreter's own list; the arguments that the kernel shows stay those it was started with.
    sys.argv = ["flwr-serverapp", "--runtime-api-address", address, "--insecure", "--parent-pid", parent]
    sys.argv += ["--token", token]
    flwr_serverapp()


if __name__ == "__main__":
    main()
