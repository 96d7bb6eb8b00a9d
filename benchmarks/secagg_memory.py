"""Peak memory of a hospital's client in the legs that handle its vector, in a process of its own (Linux)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.resident import peak_growth
from benchmarks.secagg_primitives import layout_of, update_of
from benchmarks.secagg_rounds import Federation
from fedward.privacy.noise import SecureStream
from fedward.privacy.secagg.encoding import RingVector, encode
from fedward.privacy.secagg.journal import FileJournal, Journal, MemoryJournal


def peak_over_vector(size: int) -> float:
    """Returns the peak extra resident memory of encode, contribute and mask, in multiples of the fp32 vector."""
    command = [sys.executable, "-m", "benchmarks.secagg_memory", str(size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    return float(json.loads(output)["extra_bytes"]) / (4 * size)


def _measure(size: int, folder: Path) -> int:
    """Bytes above what the process held with the update in memory: VmHWM, reset just before.

    The client measured keeps its journal in encrypted files; two more hospitals supply their share packages.
    """
    layout, update, stream = layout_of(size), update_of(size), SecureStream.from_os()

    def journal(name: str) -> Journal:
        return FileJournal(folder, bytes(32)) if name == measured else MemoryJournal()

    measured = "hospital-000"
    federation = Federation(3, layout, journal)
    attempt = federation.begin_round()
    client = federation.clients[measured]
    requests = attempt.requests()
    for name in sorted(requests)[1:]:
        federation.clients[name].accept_manifest(requests[name])
        attempt.add_package(name, federation.clients[name].contribute(RingVector.zeros(layout), bytes(32)))

    def legs() -> None:
        client.accept_manifest(requests[measured])
        package = client.contribute(encode(layout, {"adapter": update}, stream.uniform32), bytes(32))
        attempt.add_package(measured, package)
        upload = client.mask(attempt.close_packages()[measured])
        assert upload.vector.nbytes == layout.nbytes

    return peak_growth(legs)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps({"extra_bytes": _measure(int(sys.argv[1]), Path(scratch))}))
