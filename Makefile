# `make` lists the targets. Needs Python 3.11 or newer with pip, make, git and a C compiler; all else goes into .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Nothing here asks a model hub; the tokenizers' threads and the loader's forks do not mix.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads sleep while they wait for each other: where another program takes a core, spinning costs several times the time.
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all test-faults check format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## make .venv with the pinned tools and etude itself (once)

# The bare pin of torch comes first: an index of CPU builds offers it under a local version, which only a pin finds.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "make needs Python 3.11 or newer: make PYTHON=..."'
	@echo 'Setting up $(VENV) (a few minutes the first time)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## fine-tune a pretrained encoder on film reviews: a few minutes on two cores
	@$(BIN)/python examples/sentiment.py

test: $(READY) ## the fast tests
	$(BIN)/python -m pytest -m "not slow"

test-all: $(READY) ## every test, the slow ones too
	$(BIN)/python -m pytest

test-faults: $(READY) ## fail every call of a save, fill the disk, kill -9 at random instants: some minutes
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python -m tests.faults.torture

check: $(READY) ## format, lint, types, layers: what must be clean before a commit
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY) ## format the code and fix what the linter can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(READY) ## what a step costs beside a hand-written loop, and what the import costs (short form)
	$(BIN)/python benchmarks/step_overhead.py --short --contenders bare etude transformers
	$(BIN)/python benchmarks/import_time.py --repeats 3 --contenders torch etude etude.Trainer transformers.Trainer

clean: ## remove .venv, caches and what examples wrote
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
