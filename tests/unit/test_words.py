"""What is measured and predicted is named in the registries, and nowhere else in the package."""

import re
from pathlib import Path

import fedward

ROOT = Path(fedward.__file__).parent
REGISTRIES = ("fedward/measures/", "fedward/tasks/", "client/tasks/")
THEIR_OWN = {
    "fedward/cli/simulate.py": "describes the default scenario",
    "fedward/planning/estimate.py": "figures that a benchmark printed, with the measure they are of",
    "fedward/run.py": "an example that the tests run",
    "client/corpora/eicu.py": "a column that is not read",
    "client/generation.py": "what the next token is drawn from",
    "client/models/adapter_model.py": "a language model's own output",
    "client/models/families/": "keys of published configurations",
    "client/models/vocabulary_loss.py": "a language model's own output",
    "client/data/": "stays end in death or not",
    "privacy/audit.py": "the term of the attack's paper",
    "simulations/result.py": "reads documents of version 1, which knew nothing else",
    "simulations/synthetic/": "draws patients whose true risk is known",
}
"""Files that may name a measure or a task, and why."""


def test_nothing_outside_the_registries_names_a_measure_or_a_task():
    found = set()
    for folder in ("server", "client", "strategies", "privacy", "simulations", "."):
        place = (ROOT / folder).resolve()
        for path in place.rglob("*.py"):
            name = f"{'fedward' if folder == '.' else folder}/{path.relative_to(place).as_posix()}"
            if re.search("auroc|mortality|logit", path.read_text(encoding="utf-8"), re.IGNORECASE):
                found.add(name)
    allowed = (*REGISTRIES, *THEIR_OWN)
    assert not {name for name in found if not name.startswith(allowed)}
    assert all(any(name.startswith(own) for name in found) or own == "client/data/" for own in THEIR_OWN)
