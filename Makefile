# One bootstrap for all targets: a virtual environment from the locked, hashed set of dependencies.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The command finds its home by the current folder; the same for every target.
export TWINLOOP_HOME := $(CURDIR)
# uv takes no say from a user's own configuration, so that every machine installs the same.
UV := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help install run test test-all lint format bench accuracy up lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.ok ## Set up .venv/ from requirements.lock

$(VENV)/.ok: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --require-hashes --python $(BIN)/python -r requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

run: install ## Replay a simulated year through both loops (about two minutes)
	$(BIN)/twinloop replay bikes --flows

# A file of tests stays with one process: its servers are started once.
PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: install ## Run the tests but the slow ones (about a quarter of an hour on two cores)
	$(PYTEST) -m "not slow"

test-all: install ## Run all tests: kills and outages, fuzzing, PostgreSQL too
	$(PYTEST)

lint: install ## Check style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## Run all benchmarks but that of accuracy
	@status=0; for script in $(filter-out benchmarks/frame.py benchmarks/accuracy.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script || status=1; done; exit $$status

accuracy: install ## Compare with FLAML and AutoGluon (an hour; makes an environment of 830 MB)
	$(BIN)/python benchmarks/accuracy.py --budget 60 120

up: install ## Serve both pages and run all workloads on their schedules; Ctrl-C stops
	$(BIN)/twinloop up

lock: $(VENV)/.ok ## Resolve dependencies anew and write requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --extra dev pyproject.toml --output-file requirements.lock --upgrade

clean: ## Remove the environment, caches, the lake and the stores
	rm -rf $(VENV) .prefect .mypy_cache .ruff_cache .pytest_cache .hypothesis data/lake mlflow/store *.egg-info src/*.egg-info
