PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Many tests wait for servers: more of them at a time than there are processors.
TEST_PROCESSES ?= 4
# A run that takes longer than this is ended, and says where it stood.
TEST_MINUTES ?= 60
define MAKE_VENV
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "candlestep needs Python 3.11 or newer: make PYTHON=python3.11")'
$(PYTHON) -m venv $(VENV)
endef
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c .ci/constraints.txt

.PHONY: demo install setup test lint bench clients-check rl-check examples screenshot torture soak clean help

help:
	@echo "make demo    step an agent through the sample market, and look at it; DATA='file ...': through your candles"
	@echo "make install install candlestep into $(VENV)"
	@echo "make setup   install it and the tools to work on it"
	@echo "make test    lint, check types and run the tests (sets up what is missing)"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   print the speed table"
	@echo "make examples record the examples of the API's documentation"
	@echo "make screenshot  take the picture of a page for the README"
	@echo "make clients-check  trade with the real clients of Binance, and keep what they send"
	@echo "make rl-check  train with Stable-Baselines3, RLlib and a loop like CleanRL's"
	@echo "make torture kill a server 200 times (KILLS=…) and compare what is left"
	@echo "make soak    keep a server busy for half an hour (MINUTES=…) and watch what it takes"

demo: $(VENV)/installed
	@$(BIN)/python examples/demo.py $(DATA)

install: $(VENV)/installed

setup: $(VENV)/tools

$(VENV)/installed: pyproject.toml .ci/constraints.txt
	$(MAKE_VENV)
	$(PIP) -e .
	@touch $@

# Bytecode is written where something is imported: to compile all that is installed takes longer.
$(VENV)/tools: pyproject.toml .ci/constraints.txt
	$(MAKE_VENV)
	$(PIP) --no-compile -e '.[dev]'
	@touch $(VENV)/installed $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Servers of tests start often: without bytecode, each would compile the packages anew.
test: export PYTHONDONTWRITEBYTECODE =
test: lint
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal --most-minutes $(TEST_MINUTES)

torture: setup
	@$(BIN)/python -m tests.torture $(KILLS)

soak: setup
	@$(BIN)/python -m tests.soak $(MINUTES)

bench: setup
	@$(BIN)/python -m tests.benchmarks

examples: setup
	@$(BIN)/python -m tests.record_examples

screenshot: setup
	@$(BIN)/python -m tests.screenshot

# Trainers have requirements of their own, and torch is large: an environment apart.
RL := .ci/rl
TORCH ?= torch==2.13.0

$(RL)/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(RL)
	$(RL)/bin/pip install --quiet --disable-pip-version-check $(TORCH) stable-baselines3==2.9.2 'ray[rllib]==2.60.0'
	$(RL)/bin/pip install --quiet --disable-pip-version-check -e '.[rl]' hypothesis
	@touch $@

rl-check: $(RL)/installed
	$(RL)/bin/python -m tests.trainers.stable_baselines
	$(RL)/bin/python -m tests.trainers.cleanrl
	$(RL)/bin/python -m tests.trainers.rllib
	$(RL)/bin/python -m tests.trainers.example
	$(RL)/bin/python -m tests.trainers.pages

# Clients of Binance, as they are installed by those who write bots.
CLIENTS := .ci/clients

$(CLIENTS)/installed: Makefile
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet --disable-pip-version-check ccxt==4.5.90 python-binance==1.0.37 binance-sdk-spot==13.3.0 time-machine
	@touch $@

clients-check: setup $(CLIENTS)/installed
	@$(BIN)/python -m tests.clients.check

clean:
	rm -rf $(VENV) $(RL) $(CLIENTS) .ci/peers .hypothesis .mypy_cache .pytest_cache .ruff_cache .src/*.egg-info
