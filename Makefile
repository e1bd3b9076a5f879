# Two commands are enough: `make demo` shows the program at work, `make test` runs every check.
# Both set up what they need in .venv from the hashed lock file; nothing else on the machine is touched.

PYTHON ?= python3
SEEDS ?= 2000
CASES ?= 100000
STORE ?= sqlite
WORKERS ?= auto
VENV := .venv
LOCK := requirements/dev.txt
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

# A lock file is complete, so it is installed as it stands, and `pip check` sees that nothing is missing. Resolving it
# would break with the next release of something that is needed with an extra: older pips look for the newest
# `coverage[toml]`, and then miss its hash. -qq: without an index, warnings about each retry would hide what is wrong.
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -qq --no-deps
NEEDS_INDEX = { echo "make: $(1) could not be installed: it takes a package index, which pip must be able to reach"; exit 1; } >&2
RESOLVE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --no-annotate --no-header --output-file

# ASYNC9: every path of every function a checkpoint, which is a style and not a fault. ASYNC124: a test may need a
# running trio without waiting for anything. ASYNC127: about httpx's name. ASYNC106: `import anyio` alone does not load
# `anyio.to_thread`.
FLAKE8_ASYNC := --disable=ASYNC9,ASYNC106,ASYNC124,ASYNC127 --startable-in-context-manager=reach_redis,serve,watch_gates,watch_parent,watch_signals,watch_silences,_heed_signals,_stop_at_a_signal,serve_receiver,serve_tls_front

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types unit install judges crash chaos soak fuzz simulate mutants bench docs lock clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

demo: $(READY) ## Watch alerts flow through an embedded Valkey, the SQLite store and local receivers
	@$(BIN)/python -m trio_alerts demo

test: lint types unit ## Run every check: lint, types, and the tests against real servers

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	git ls-files -z '*.py' | xargs -0 -n 40 -P 2 $(BIN)/flake8-async $(FLAKE8_ASYNC)

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest --cov -n $(WORKERS) --no-loadscope-reorder

install: $(READY) ## Install the locks, the wheel and the sdist in venvs of their own, with every pip and Python here
	$(BIN)/python -m tests.install

judges: $(READY) ## Let programs of others judge what channels send and what deploy/ holds; from the Go module proxy
	$(BIN)/pytest -m registry tests/real

crash: $(READY) ## Kill, pause and cut real processes and servers, and balance the ledgers (long)
	$(BIN)/python -m tests.crash

chaos: $(READY) ## Do harm of every kind at once for three minutes: make chaos SEED=7 STORE=opensearch
	$(BIN)/python -m tests.chaos --store $(STORE) $(if $(SEED),--seed $(SEED))

soak: $(READY) ## Run 20 minutes of steady traffic, killing workers, and see memory stay flat
	$(BIN)/python -m tests.soak

fuzz: $(READY) ## Feed generated answers, settings and entries to every border: make fuzz CASES=100000
	$(BIN)/python -m tests.fuzz --cases $(CASES)

simulate: $(READY) ## Run deterministic histories of whole services: make simulate SEEDS=2000
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

mutants: $(READY) ## Break key lines one by one and see each break caught
	$(BIN)/python -m tests.simulation.mutants

bench: $(READY) ## Measure throughput under slow receivers beside a plain asyncio program
	$(BIN)/python -m bench

docs: $(READY) ## Write what the documentation takes from the code: settings, the map
	$(BIN)/python docs/generate.py

lock: $(READY) ## Resolve the dependencies anew, to the newest and to the lowest versions that pyproject.toml allows
	@$(INSTALL) --require-hashes -r requirements/uv.txt || $(call NEEDS_INDEX,requirements/uv.txt)
	$(RESOLVE) requirements/dev.txt --extra embedded --extra otel --group dev pyproject.toml
	$(RESOLVE) requirements/lowest.txt --extra embedded --extra otel --group dev --resolution lowest-direct pyproject.toml
	$(RESOLVE) requirements/image.txt -c requirements/dev.txt --extra otel pyproject.toml
	echo hatchling | $(RESOLVE) requirements/build.txt -c requirements/dev.txt -
	echo uv | $(RESOLVE) requirements/uv.txt -

clean: ## Remove what the targets above made
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* build dist

venv: $(READY) ## Set up .venv, which the targets above do by themselves

$(READY): $(LOCKED) pyproject.toml
	@$(INSTALL) --no-build-isolation -e .
	@$(PIP) check
	@touch $@

# In an empty venv: what an older lock file left behind could break the newer one.
$(LOCKED): $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trio_alerts needs Python 3.11 or newer; this is " \
		+ sys.version.split()[0] + ". Say which one to use: make PYTHON=python3.12 ...")'
	@echo "Installing $(LOCK) into $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(INSTALL) --require-hashes -r $(LOCK) || $(call NEEDS_INDEX,$(LOCK))
	@touch $@
