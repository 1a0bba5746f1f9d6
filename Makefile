# make up: set up and start.  make test: set up and run the tests.  Everything lives in .venv.
SHELL  := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: up test test-offline check messages lock bench clean help

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 20

up: $(VENV)/ready            ## set up and start the server (options: make up ARGS="--port 9000")
	@$(BIN)/daulat up $(ARGS)

test: $(VENV)/ready-dev            ## set up and run the tests (options: make test ARGS="tests/record -x")
	@$(BIN)/python -m pytest $(ARGS)

test-offline: $(VENV)/ready-dev            ## the same without a network; packets that want out are counted (Linux)
	@$(BIN)/python tools/offline.py $(BIN)/python -m pytest -m 'not outside' $(ARGS)

check: $(VENV)/ready-dev            ## format, lint, types, import contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

messages: $(VENV)/ready-dev            ## gather and compile the translations
	$(BIN)/python tools/messages.py

lock: $(VENV)/ready-dev            ## write requirements.lock from what .venv holds
	$(BIN)/python tools/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock

bench: $(VENV)/ready-dev            ## measure the start of the server, the engine, its cache and the gateway
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/gateway.py

clean:            ## remove .venv
	rm -rf $(VENV)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Daulat needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/ready: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet --constraint requirements.lock --editable .
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(PIP) install --quiet --constraint requirements.lock --group dev
	@touch $@
