"""Peak memory of a client that encodes and masks, measured in a process of its own (Linux)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.secagg_primitives import layout_of, signed_seeds, update_of
from fedward.privacy.secagg.encoding import encode
from fedward.privacy.stream import SecureStream


def peak_over_vector(size: int) -> float:
    """Returns the peak extra resident memory of encoding and masking, as a multiple of the fp32 vector."""
    command = [sys.executable, "-m", "benchmarks.secagg_memory", str(size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    return float(json.loads(output)["extra_bytes"]) / (4 * size)


def _resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def _measure(size: int) -> int:
    """Bytes above what the process held with the update in memory: VmHWM, reset just before."""
    update, seeds, stream, layout = update_of(size), signed_seeds(7), SecureStream.from_os(), layout_of(size)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    vector = encode(layout, {"adapter": update}, stream.uniform32)
    vector.add_masks_(seeds)
    upload = memoryview(vector.buffer)
    assert len(upload) == 4 * size
    return _resident("VmHWM") - before


if __name__ == "__main__":
    print(json.dumps({"extra_bytes": _measure(int(sys.argv[1]))}))
