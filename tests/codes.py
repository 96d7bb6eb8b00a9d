"""One way for all tests to say which error they expect: by its code."""

import pytest

from fedward.errors import FedwardError, table


def raises(*codes, match=None):
    """``pytest.raises`` for an error with one of these codes."""
    assert set(codes) <= set(table()), f"not in errors.toml: {codes}"
    return pytest.raises(FedwardError, match=match, check=lambda error: error.code in codes)
