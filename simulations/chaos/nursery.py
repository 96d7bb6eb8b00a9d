"""Nursery of processes: it has loaded everything, starts no thread, and forks one off in a moment.

    python -P -m fedward.simulations.chaos.nursery FOLDER

It reads one errand per line of JSON from its input and answers with the process id; when its input ends, it ends
with everything that it has started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from fedward.client.models.adapter_model import build_model
from fedward.simulations.chaos.agreement import Agreed
from fedward.simulations.chaos.coordinator import serve_here
from fedward.simulations.chaos.hospital import Errand, price_rounds, serve_site
from fedward.simulations.chaos.places import COORDINATOR, Places
from fedward.simulations.chaos.points import Fault
from fedward.simulations.parties import EncodedSite, make_sites


def errand_of(line: str) -> Errand:
    """Reads one line."""
    document: dict[str, Any] = json.loads(line)
    return Errand(**{**document, "faults": tuple(Fault(**fault) for fault in document.get("faults", ()))})


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    places = Places(Path(sys.argv[1]))
    agreed = Agreed.read(places)
    model = build_model(agreed.run, agreed.files)
    sites = make_sites(agreed.scenario, agreed.run.plan)
    encoded = {site.name: EncodedSite.encode(site, agreed.run, agreed.files, model) for site in sites}
    price_rounds(agreed)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here: whoever asked for one watches it
    print(json.dumps({"ready": sorted(encoded)}), flush=True)
    children: list[int] = []
    for line in sys.stdin:
        errand = errand_of(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            if errand.site == COORDINATOR:
                serve_here(places, errand.faults, errand.counts)
            serve_site(places, agreed, encoded[errand.site], errand)
        children.append(pid)
        print(json.dumps({"pid": pid}), flush=True)
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
