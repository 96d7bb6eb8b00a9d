"""Entry point of the locked-down process: ``python -m`` with SOURCE, TARGET and its limits MEMORY, SECONDS, FILE.

Prints one JSON object: whether the network was given up, or the error that its parent shows.
"""

import json
import sys
from pathlib import Path

from fedward.client.models.importing.confinement import Limits, confine
from fedward.client.models.importing.convert import convert
from fedward.errors import FedwardError


def main(source: str, target: str, memory: str, seconds: str, file: str) -> None:
    """Gives up what reading does not need, then converts."""
    confined = confine(Limits(int(memory), int(seconds), int(file)))
    try:
        convert(Path(source), Path(target))
        print(json.dumps({"confined": confined}))
    except FedwardError as error:
        print(json.dumps({"code": error.code, "message": error.message, "fix": error.fix}))
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
