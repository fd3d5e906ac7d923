# make demo      pre-train, measure and draw on the bundled images
# make test      all that CI runs: format, lint, types, import directions, tests
# make faults    kills, crashes, full disks and damaged files; writes docs/reliability.md (FAULTS="--only 4 --quick": less)
# make format    ruff, in place
# make build     the source archive and the wheel, into dist/
# make clean     removes .venv and all that is built
# make help      prints these lines
#
# Each of them creates .venv if it is missing. PYTHON names the interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test faults format build clean help

demo: .venv/installed
	$(BIN)/openmae demo

test: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses auto --maxprocesses 4

faults: .venv/installed-bench
	$(BIN)/python -m tests.faults $(FAULTS)

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Without isolation: setuptools comes with the dev extra, so building needs no network. The wheel is built from the archive.
build: .venv/installed-dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "OpenMAE needs Python 3.11 or newer; run make PYTHON=python3.12, say."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml .venv/bin/python
	@echo "Installing OpenMAE into .venv (PyTorch is several gigabytes; this takes a few minutes) …"
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what the tests need …"
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

.venv/installed-bench: .venv/installed-dev
	@echo "Installing what the comparisons need …"
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
