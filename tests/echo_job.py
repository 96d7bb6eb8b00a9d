"""A job that measures the road to the hospitals with random bytes; nothing of a hospital is involved.

The package runs federations only. Tests add this kind where they call the job themselves, and for a SuperLink they put
a copy of this file into the code bundle that it starts (:func:`bundled`).
"""

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from fedward.config import Section, parse
from fedward.errors import IntegrityError
from fedward.messages import Request, Stage
from fedward.storage import replace_file


class EchoJob(Section):
    """The job file. ``report`` is rewritten after each round: seconds and bytes by round and site."""

    kind: Literal["echo"]
    sites: Annotated[list[str], Field(min_length=1)]
    report: str
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    nbytes: Annotated[int, Field(ge=0, le=1024**3)] = 4_000_000
    seconds: Annotated[float, Field(gt=0)] = 30.0
    discover_seconds: Annotated[float, Field(gt=0)] = 60.0


def run_echo(transport, path):
    """Sends every site fresh random bytes in each round and compares what comes back.

    A site that misses the deadline is left out of that round. Raises FW-TIME-002 (a site was not online in time),
    FW-INTEGRITY-001 (a hospital returned other bytes).
    """
    job = parse(json.loads(path.read_bytes()), EchoJob, source=path.name)
    transport.discover(job.sites, seconds=job.discover_seconds)
    report, rounds = Path(job.report), []
    for number in range(job.rounds):
        rounds.append(_echo_round(transport, job, number))
        replace_file(report, json.dumps(rounds).encode())


def _echo_round(transport, job, number):
    blob = np.random.default_rng(number).integers(0, 256, job.nbytes, dtype=np.uint8)
    request = Request(Stage.ECHO, hashlib.sha256(blob.tobytes()).digest(), {"noise": blob})
    start, answered = time.monotonic(), {}
    for site, reply in transport.exchange([(site, request) for site in job.sites], seconds=job.seconds):
        if not reply.refusal:
            _check_echo(reply, request.payload, blob)
            answered[site] = {"seconds": time.monotonic() - start, "nbytes": float(reply.nbytes)}
    return answered


def _check_echo(reply, payload, blob):
    echoed = reply.blobs.get("noise")
    if reply.payload != payload or echoed is None or not np.array_equal(echoed, blob):
        raise IntegrityError("A hospital returned other bytes than it was sent.")


def bundled(bundle):
    """``bundle`` with this kind of job among those that its ServerApp runs."""
    lines = (
        b"from fedward.server.job import KINDS",
        b"from fedward_run.echo_job import run_echo",
        b"KINDS['echo'] = run_echo",
    )
    app = b"\n".join((bundle["fedward_run/app.py"], *lines, b""))
    return bundle | {"fedward_run/echo_job.py": Path(__file__).read_bytes(), "fedward_run/app.py": app}
