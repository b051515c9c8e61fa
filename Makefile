# The index of commands. Each one installs what it needs into .venv first, also on a fresh checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WARM_UP := $(BIN)/python -c 'from solver.warm_up import warm_up; warm_up()'

.PHONY: help install demo serve test lint audit format openapi bench lock clean test-deep test-faults test-fuzz test-load test-scale-out

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## make .venv with the tested versions of everything, and .venv/bin/placewright

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	rm -rf solver/__pycache__/kernels-*
	$(WARM_UP)
	touch $@

demo: install ## place the example graph and print placement, stages and gap
	$(BIN)/placewright solve examples/demo.json --time-limit 20

serve: install ## the HTTP service on 127.0.0.1:8000
	$(BIN)/placewright serve

SPREAD := --numprocesses logical --maxprocesses 4 --dist worksteal
test: install ## the whole test suite, in as many processes as there are cores, at most 4
	$(WARM_UP)
	$(BIN)/python -m pytest $(SPREAD)

test-deep: install ## the whole test suite with 5 times as many random instances
	$(WARM_UP)
	PLACEWRIGHT_TEST_DEPTH=5 $(BIN)/python -m pytest $(SPREAD) --timeout 1500

test-scale-out: install ## PostgreSQL, a Ray cluster, several servers and dispatchers, all of them killed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-scale-out.lock
	$(BIN)/python -m pytest -m scale_out tests/app

test-faults: install ## 50 rounds of SIGKILL at random moments, 20 jobs each
	$(BIN)/python -m tests.app.faults

test-load: install ## latencies, a long queue, many streams, 5,000 jobs in a row
	$(BIN)/python -m tests.app.load

test-fuzz: install ## 10,000 mutated documents
	$(BIN)/python -m tests.app.fuzz

lint: install ## style, types, the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m app.openapi_file | diff -u openapi.json - || { echo "openapi.json is not what the service says: make openapi"; exit 1; }

audit: install ## known weaknesses of the locked dependencies; before a release, and now and then
	$(BIN)/python .ci/audit.py

format: install ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: install ## write openapi.json again, after a change of the HTTP interface
	$(BIN)/python -m app.openapi_file > openapi.json

bench: install ## quality, speed and alternatives over PLACEWRIGHT_WORKLOADS, else examples/; ARGS=--help tells more
	$(BIN)/python -m benchmarks.run $(ARGS)

LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
SERVICE := --extra service --extra telemetry --extra postgres --extra oidc --extra client
lock: install ## compile the requirements locks again: hashes, no addresses
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) $(SERVICE) --extra bench --extra dev --output-file requirements.lock pyproject.toml requirements-build.in
	$(LOCK) $(SERVICE) --constraint requirements.lock --output-file requirements-service.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --output-file requirements-build.lock requirements-build.in
	$(LOCK) $(SERVICE) --extra ray --extra scale-out-tests --constraint requirements.lock --output-file requirements-scale-out.lock pyproject.toml
	$(LOCK) $(SERVICE) --extra ray --constraint requirements-scale-out.lock --output-file requirements-ray.lock pyproject.toml

clean: ## remove what the other commands made
	rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache
