PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Many tests wait for servers: more of them at a time than there are processors.
TEST_PROCESSES ?= 4
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt

.PHONY: demo install setup test lint bench torture clean help

help:
	@echo "make demo    step an agent through the sample market; DATA='file ...': through your candles"
	@echo "make install install candlestep into $(VENV)"
	@echo "make setup   install it and the tools to work on it"
	@echo "make test    lint, check types and run the tests (sets up what is missing)"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   print the speed table"
	@echo "make torture kill a server 200 times (KILLS=…) and compare what is left"

demo: $(VENV)/installed
	@$(BIN)/python examples/demo.py $(DATA)

install: $(VENV)/installed

setup: $(VENV)/tools

$(VENV)/installed: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "candlestep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/tools: $(VENV)/installed
	$(PIP) -e '.[dev]'
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -n $(TEST_PROCESSES)

torture: setup
	@$(BIN)/python -m tests.torture $(KILLS)

bench: setup
	@$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .src/*.egg-info
