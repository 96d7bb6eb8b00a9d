"""Schema of a state folder: which form its files have, so that another release goes on with them or leaves them alone.

``schema.json`` at the top of a state folder, and of each run's folder in it, says the version of the form and the
release that wrote it last. A folder without one is from before there were any: version 0, release 0.1.0. A newer
version is refused before anything in it is read, let alone charged. An older one is carried over, one step after the
other, under the folder's lock; every file that a step replaces stays beside it as ``NAME.schema-N`` for the way back,
which ``docs/hospital.md`` and ``docs/coordinator.md`` describe under "Upgrading". A step that was interrupted begins
again: the version is written last.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedward import __version__
from fedward.config import Section, parse
from fedward.errors import IntegrityError, VersionError
from fedward.storage import read_limited, replace_private

SCHEMA_FILE = "schema.json"
MAX_SCHEMA_BYTES = 4096

Step = Callable[[Path], None]


class SchemaRecord(Section):
    """What the file says."""

    kind: str  # whose folder it is: "hospital", "coordinator", "run"
    version: int
    release: str  # that wrote it last, for people


@dataclass(frozen=True)
class Schema:
    """The form of one kind of folder: its present version is the number of ``steps``, each from one to the next."""

    kind: str
    steps: Sequence[Step]

    @property
    def version(self) -> int:
        """The present one."""
        return len(self.steps)

    def of(self, folder: Path) -> int:
        """The version of ``folder``; 0 without a file. Raises FW-INTEGRITY-315 (the file is damaged)."""
        path = folder / SCHEMA_FILE
        if not path.exists():
            return 0
        try:
            record = parse(json.loads(read_limited(path, MAX_SCHEMA_BYTES)), SchemaRecord, source=SCHEMA_FILE)
        except Exception as error:
            message = f"The file {path} cannot be read as the schema of a state folder."
            raise IntegrityError(message, code="FW-INTEGRITY-315") from error
        if record.kind != self.kind or record.version < 0:
            raise IntegrityError(f"The folder {folder} is no state folder of a {self.kind}.", code="FW-INTEGRITY-315")
        return record.version

    def check(self, folder: Path) -> None:
        """Refuses a folder that a later release wrote; raises FW-VERSION-307, FW-INTEGRITY-315. Reads only."""
        found = self.of(folder)
        if found > self.version:
            raise VersionError(
                f"The state folder {folder} has schema {found}; this release knows schemas up to {self.version}.",
                code="FW-VERSION-307",
            )

    def settle(self, folder: Path) -> None:
        """Carries an older folder over to the present schema, and marks a new one. Raises like :meth:`check`, OSError.

        Whoever calls it holds the folder's lock: only one process may change its files.
        """
        self.check(folder)
        found = self.of(folder)
        for step in self.steps[found:]:
            step(folder)
        if found < self.version or not (folder / SCHEMA_FILE).exists():
            record = SchemaRecord(kind=self.kind, version=self.version, release=__version__)
            replace_private(folder / SCHEMA_FILE, record.model_dump_json().encode() + b"\n")


def keep_copy(path: Path, version: int) -> None:
    """Leaves what a step from ``version`` is about to replace beside it, once; raises FW-RESOURCE-301."""
    kept = path.with_name(f"{path.name}.schema-{version}")
    if path.exists() and not kept.exists():
        replace_private(kept, path.read_bytes())
