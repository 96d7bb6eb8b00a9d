"""Settings shared by all tests: no network, quiet libraries, one identity per module, the coordinator alone."""

import importlib.util
import os
import sys

import pytest

import fedward  # noqa: F401  # sets the environment before any test imports Flower or transformers

os.environ.setdefault("OMP_NUM_THREADS", "1")
DOUBLES = ("server", "client", "strategies", "privacy", "simulations")
LEARNING = ("torch", "transformers", "peft", "opacus", "tokenizers")
READING = ("pyarrow", "lxml", "datasketch", "sacrebleu", "rouge_score", "nltk")
CLIENT_EXTRA = (*LEARNING, *READING)
WITHOUT_CLIENT = "the client extra, which is not installed"


def pytest_configure(config):
    if importlib.util.find_spec("torch") is None:
        # Registered, for hooks of a conftest.py are not asked about folders whose own conftest.py fails.
        config.pluginmanager.register(CoordinatorOnly())


def pytest_collection_modifyitems(items):
    data = os.environ.get("FEDWARD_DATA")
    skip = pytest.mark.skip(reason="FEDWARD_DATA does not name a folder with the openly licensed demo tables")
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
        if item.get_closest_marker("data") and not data:  # keywords would also match the folder of that name
            item.add_marker(skip)


def _has_gpu():
    import torch  # tests with this mark have imported it already

    return torch.cuda.is_available()


class CoordinatorOnly:
    """Where the client extra is not installed, tests that need it are skipped; everything else must pass."""

    def pytest_collection_modifyitems(self, items):
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(pytest.mark.skip(reason=f"needs {WITHOUT_CLIENT}"))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        """A file, or a folder with its conftest.py, that cannot be imported for want of the extra alone."""
        report = yield
        error = report.call.excinfo.value if report.failed else None
        while error is not None and not isinstance(error, ModuleNotFoundError):
            error = getattr(error, "cause", error.__cause__)
        if error is not None and error.name.partition(".")[0] in CLIENT_EXTRA:
            why = f"Skipped: {error.name} belongs to {WITHOUT_CLIENT}"
            report.outcome, report.longrepr = "skipped", (str(collector.path), 0, why)
        return report


def pytest_sessionfinish(session):
    """A module imported under a second name would give every class in it a second identity."""
    found = [name for name in sys.modules if name.partition(".")[0] in DOUBLES]
    if found:
        session.exitstatus = 1
        print(f"\nimported outside fedward: {', '.join(sorted(found)[:5])}")
