# Everything needs Python 3.11 or newer and nothing else; versions come from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# pip would compile every file of every package; Python compiles what is imported, a quarter of that, when it is imported.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt

export PYTHONDONTWRITEBYTECODE :=  # compiled files are kept: without them each start of Python takes seconds more

.DEFAULT_GOAL := help
.PHONY: help run test quick check attack attack-all soak bench docs wheel clean

help:  ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

.venv/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch .venv/run

.venv/dev: .venv/run
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	touch .venv/dev

run: .venv/run  ## the main job: the embedded market, every model, and a report to open
	$(BIN)/gatecast run

test: .venv/dev  ## all tests, examples and docstrings
	$(BIN)/python -m pytest -n 2 --dist worksteal

quick: .venv/dev  ## the quick tests, in a minute and a half: those that tests/slow.txt does not list
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

check: .venv/dev  ## style, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

attack: .venv/dev  ## hostile files, and faults of the disk and kill -9 at a third of all operations, in about 20 minutes
	$(BIN)/python -m attack --share 0.33

attack-all: .venv/dev  ## the same at every operation, in more than an hour
	$(BIN)/python -m attack

soak: .venv/dev  ## a store under kill -9, faults of the disk, feeds in any order, years of calendar, the daemon and a replay
	$(BIN)/python -m soak

bench: .venv/dev  ## speed against plain torch, in one run
	$(BIN)/python benchmarks/engine.py

docs: .venv/dev  ## the pages that are made by the code, and the documentation site in site/
	$(BIN)/python docs/make.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

wheel: .venv/dev  ## the wheel, from the source distribution, in an empty environment and outside of the repository
	.ci/wheel

clean:  ## remove what was made
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
