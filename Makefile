# make demo      pre-train, measure and draw on the bundled images
# make test      all that CI runs: format, lint, types, import directions, tests
# make test-all  the tests that make test leaves for later, too
# make test-oldest   the tests with the lowest versions that pyproject.toml permits, in .venv-oldest
# make oldest    writes requirements-oldest.txt again, after a change of a lower bound
# make faults    kills, crashes, full disks and damaged files; writes docs/reliability.md (FAULTS="--only 4 --quick": less)
# make docs      the site, into build/docs; fails on a warning (DOCS=linkcheck: looks whether links to others still lead somewhere)
# make format    ruff, in place
# make build     the source archive and the wheel, into dist/
# make clean     removes .venv and all that is built
# make help      prints these lines
#
# Each of them creates .venv if it is missing. PYTHON names the interpreter: make PYTHON=python3.12 test
PYTHON ?= python3
BIN := .venv/bin
# Many tests wait for processes that they start: three do not fill two processors.
TESTERS ?= 3

# What Sphinx builds: html, or linkcheck, which needs a network
DOCS ?= html

# Minutes of two processes and of every page's commands; make test-all has them. They are to become cheap enough.
LATER := --ignore tests/evaluation/quality/test_processes.py \
  --deselect tests/documentation/test_blocks.py::test_the_commands_of_a_page_run

.PHONY: demo test test-all test-oldest oldest faults docs format build clean help

demo: .venv/installed
	$(BIN)/openmae demo

# The tests' tensors are tiny: a second thread of torch would only wait, and take a processor from the other tests.
test test-all test-oldest: export OMP_NUM_THREADS ?= 1

test: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses $(TESTERS) $(LATER)

test-all: .venv/installed-dev
	$(BIN)/pytest --numprocesses $(TESTERS)

# OLDEST are more options of uv, such as --torch-backend=cpu, for torch without CUDA
# Old versions warn of what newer versions of their own parts will take away; that is not ours to mend.
test-oldest: .venv-oldest/installed
	.venv-oldest/bin/pytest --numprocesses $(TESTERS) -W default::DeprecationWarning -W default::FutureWarning

oldest: .venv/installed-dev
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --all-extras --python-version 3.11 --no-header --no-annotate \
	  pyproject.toml --output-file requirements-oldest.txt

faults: .venv/installed-bench
	$(BIN)/python -m tests.faults $(FAULTS)

docs: .venv/installed-dev
	$(BIN)/python -m sphinx -W --keep-going --quiet -b $(DOCS) -d build/doctrees docs build/$(DOCS:html=docs)
	@echo "build/$(DOCS:html=docs)"

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

.venv/installed-dev: pyproject.toml .venv/bin/python
	@echo "Installing OpenMAE and what the tests need into .venv (several gigabytes; this takes a few minutes) …"
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch .venv/installed $@

.venv-oldest/installed: requirements-oldest.txt .venv/installed-dev
	@echo "Installing the oldest versions into .venv-oldest …"
	$(BIN)/uv venv --quiet --seed --clear --python $(BIN)/python .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python $(OLDEST) --requirement requirements-oldest.txt
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-bench: .venv/installed-dev
	@echo "Installing what the comparisons need …"
	$(BIN)/pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf .venv .venv-oldest build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
