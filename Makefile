# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash

VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
# The tests mostly wait: for a deadline, a drain, the start of an interpreter.
JOBS   := $(shell n=$$(nproc); echo $$((n < 4 ? 2 * n : 8)))
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

run: $(VENV)/.run ## serve the example application under etc/asgid.toml.example
	@$(BIN)/asgid -c etc/asgid.toml.example

test: lint ## format, lint, types, and the tests that need no package from Debian, except the slow ones
	@$(BIN)/pytest -q -n $(JOBS) --dist worksteal -m "not slow and not system" tests

slow: $(VENV)/.test ## the tests that take more than ten seconds each; CI runs them after the others
	@$(BIN)/pytest -q -m "slow and not system" -o faulthandler_timeout=0 tests

lowest: $(LOWEST)/.test ## the unit tests, and the tests of dependencies, with the lowest versions that pyproject.toml declares
	@$(LOWEST)/bin/pytest -q -m "not slow and not system" tests/unit \
		$(addprefix tests/worker/test_,requests.py request_cases.py websocket.py deadlines.py ends.py) \
		tests/e2e/test_gunicorn.py

system: $(VENV)/.test ## tests with a browser, Autobahn, Prometheus, proxies, systemd and containers (from Debian, if root), Gradio and others (from PyPI)
	@$(BIN)/python -m tests.system.needs
	@$(BIN)/pytest -q -m system -o faulthandler_timeout=0 tests/system

check: lint ## the part of `make test` that starts no process; run it at every save
	@$(BIN)/pytest -q tests/unit tests/property tests/test_architecture.py tests/test_documents.py tests/test_language.py

lint: $(VENV)/.test
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

conformance: $(VENV)/.test ## run the Autobahn test suite and write its results to docs/conformance.md
	@$(BIN)/python -m tests.system.needs
	@$(BIN)/python -m tests.system.autobahn

format: $(VENV)/.test ## format the code with ruff
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

fuzz: $(VENV)/.test ## ten minutes of random byte streams; FUZZ_MINUTES=1 for less
	@$(BIN)/python -m tests.fuzz.run $(FUZZ_MINUTES)

docs: $(VENV)/.test ## write the generated documents: the references of settings and metrics, the example file, the tables of files and states
	@$(BIN)/python -m docs.generate

bench: $(VENV)/.bench ## all servers in one interleaved run; the report goes to benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.run

bench-check: $(VENV)/.run ## compare the last run of `make bench` with the targets; fails if one is missed
	@$(BIN)/python -m benchmarks.check

clean: ## remove the files that these commands made
	rm -rf $(VENV) $(LOWEST) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[examples]' && touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[test]' && touch $@

$(LOWEST)/.test: pyproject.toml constraints.txt scripts/make-lowest | $(VENV)/.test
	@./scripts/make-lowest $(LOWEST) $(BIN) && touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[test,bench]' && touch $@

$(BIN)/python:
	@./scripts/make-venv $(VENV)

.PHONY: help run test slow lowest system conformance check lint format fuzz docs bench bench-check clean
