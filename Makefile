# Two commands are enough: `make demo` shows the program at work, `make test` runs every check.
# Both set up what they need in .venv from the hashed lock file; nothing else on the machine is touched.

PYTHON ?= python3
SEEDS ?= 2000
CASES ?= 100000
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# ASYNC9: every path of every function a checkpoint, which is a style and not a fault. ASYNC124: a test may need a
# running trio without waiting for anything. ASYNC127: about httpx's name.
FLAKE8_ASYNC := --disable=ASYNC9,ASYNC124,ASYNC127 --startable-in-context-manager=serve,watch_signals,pass_signals_on,serve_receiver,serve_tls_front

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit crash soak fuzz simulate mutants bench lock clean

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
	$(BIN)/pytest --cov

crash: $(READY) ## Kill, pause and cut real processes and servers, and balance the ledgers (long)
	$(BIN)/python -m tests.crash

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

lock: $(READY) ## Resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra embedded --group dev --python-version 3.11 --universal \
		--generate-hashes --upgrade --no-emit-index-url --no-annotate --no-header --output-file requirements/dev.txt

clean: ## Remove what the targets above made
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* build dist

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trio_alerts needs Python 3.11 or newer; this is " \
		+ sys.version.split()[0] + ". Say which one to use: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
