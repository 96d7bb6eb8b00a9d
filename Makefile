# One verb per target; .ci/run calls the same ones.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo federation test fast lint types bench clean

install: $(STAMP)

# torch first and alone: any other torch than the pinned CPU build pulls gigabytes of GPU packages.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] in ((3, 11), (3, 12)) else "fedward needs Python 3.11 or 3.12; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt --group dev -e '.[client]'
	touch $(STAMP)

demo: install
	$(BIN)/fedward simulate --out demo-run --force

# One coordinator and three hospitals as processes over TLS on loopback, by the commands an operator types.
federation: install
	PATH="$(abspath $(BIN)):$$PATH" scripts/federation

test: lint types fast

fast: install
	$(BIN)/pytest -n auto --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks.utility --json runs/utility.json
	$(BIN)/python -m benchmarks.secagg --json runs/secagg.json
	$(BIN)/python -m benchmarks.dp --json runs/dp.json
	$(BIN)/python -m benchmarks.wire --json runs/wire.json
	$(BIN)/python -m benchmarks.strategies --only sums --json runs/strategies.json

clean:
	rm -rf $(VENV) build dist *.egg-info demo-run demo-federation runs
