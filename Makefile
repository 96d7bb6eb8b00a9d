# One verb per target; .ci/run calls the same ones.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COORDINATOR ?= .venv-coordinator

.PHONY: install demo federation test fast covered whole coordinator lint types mutants tenth model chaos chaos-long chaos-tenth fuzz bench clean

define new-environment
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "fedward needs Python 3.11 to 3.13; run: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(1)
	$(1)/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
endef

install: $(STAMP)

# torch first and alone: any other torch than the pinned CPU build pulls gigabytes of GPU packages.
$(STAMP): pyproject.toml constraints.txt
	$(call new-environment,$(VENV))
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt --group dev -e '.[client]'
	touch $(STAMP)

demo: install
	$(BIN)/fedward simulate --out demo-run --force
	$(BIN)/fedward simulate notes --out demo-notes --force

# One coordinator and three hospitals as processes over TLS on loopback, by the commands an operator types.
# A language model in place of the risk model: make federation SCENARIO=deploy/notes.toml
SCENARIO ?= deploy/scenario.toml
federation: install
	PATH="$(abspath $(BIN)):$$PATH" scripts/federation "$(CURDIR)/demo-federation" "$(abspath $(SCENARIO))"

test: lint types covered whole

fast: install
	$(BIN)/pytest -n auto --dist worksteal

# Tests of single parts, with a floor under what they cover: in pyproject.toml, under [tool.coverage.report].
covered: install
	$(BIN)/pytest -n auto --dist worksteal --ignore tests/integration --ignore tests/e2e --cov --cov-report term:skip-covered

# Whole federations. Their coverage would cost more time than it tells.
whole: install
	$(BIN)/pytest -n auto --dist worksteal tests/integration tests/e2e

# Deliberate one-line breaks of guards, each of which its tests must notice: tests/mutants, CONTRIBUTING.md.
mutants: install
	$(BIN)/python -m scripts.mutants

# One in ten of them, another tenth with every commit.
tenth: install
	$(BIN)/python -m scripts.mutants --tenth

# Every reachable state of one round of secure aggregation; the table of docs/threat-model.md.
model: install
	$(BIN)/python -m scripts.protocol_model --write

# A federation of processes under faults: docs/reliability.md. At most three quarters of an hour on two cores.
SEED ?= 1
chaos: install
	$(BIN)/fedward chaos --seed $(SEED)

chaos-long: install
	$(BIN)/fedward chaos --seed $(SEED) --kills 500

# One in ten of its failpoints, another tenth with every commit, and ten kills.
chaos-tenth: install
	$(BIN)/fedward chaos --parts 10 --part "$$(git rev-list --count HEAD)" --kills 10

# Mutated bytes for every decoder and reader: FUZZ each, where CI gives a few dozen. What breaks one belongs into tests/fuzz/corpus.
FUZZ ?= 2000
fuzz: install
	FEDWARD_FUZZ=$(FUZZ) $(BIN)/pytest -n auto --dist worksteal tests/fuzz

# What a coordinator installs, and the tests of that: without the client extra, on any Python of pyproject.toml.
coordinator: $(COORDINATOR)/.installed
	$(COORDINATOR)/bin/pytest -n auto --dist worksteal

$(COORDINATOR)/.installed: pyproject.toml constraints.txt
	$(call new-environment,$(COORDINATOR))
	$(COORDINATOR)/bin/pip install --quiet -c constraints.txt --group dev -e .
	$(COORDINATOR)/bin/python -c 'import importlib.util, sys; sys.exit("torch is there" if importlib.util.find_spec("torch") else 0)'
	touch $@

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
	$(BIN)/python -m benchmarks.data --json runs/data.json
	$(BIN)/python -m benchmarks.strategies --only sums --json runs/strategies.json
	$(BIN)/python -m benchmarks.language --json runs/language.json

clean:
	rm -rf $(VENV) $(COORDINATOR) build dist *.egg-info demo-run demo-notes demo-federation runs
