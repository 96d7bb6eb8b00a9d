"""A hospital process for the integration tests: serves nothing but the edge's own stages. Settings are JSON in argv."""

import json
import sys
import threading
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedward.client.flower import make_client_app, serve
from fedward.client.link import Endpoint
from fedward.errors import PolicyError


class EchoSite:
    def __init__(self, name):
        self.name = name

    def answer(self, request):
        raise PolicyError("This site has no data.")


def main():
    settings = json.loads(sys.argv[1])
    folder = Path(settings["folder"])
    private = load_pem_private_key((folder / "node.pem").read_bytes(), password=None)

    def note(node_id):
        with (folder / "online").open("a", encoding="ascii") as file:
            file.write(f"{node_id}\n")

    serve(
        make_client_app(EchoSite(settings["name"])),
        Endpoint(
            settings["address"],
            root_certificates=Path(settings["ca"]).read_bytes(),
            client_certificate=tuple(map(Path, settings["certificate"])),
        ),
        stop=threading.Event(),
        keys=(private, private.public_key()),
        node_file=folder / "node-id",
        on_online=note,
    )


if __name__ == "__main__":
    main()
