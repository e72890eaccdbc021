# Each target sets up what it needs. `make demo` is the place to begin; ARGS goes to the command it runs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=
COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=build/compiled:benchmarks

.PHONY: demo demo-kafka test test-quick payments-crash crash-test loader-kills compiled sabotage bench mutants fuzz lint servers clean

demo: .venv/installed
	$(BIN)/pstn demo $(ARGS)

demo-kafka: .venv/installed
	tests/install-servers kafka
	$(BIN)/pstn demo --kafka $(ARGS)

test: lint servers
	$(BIN)/pytest $(ARGS)

test-quick: lint
	$(BIN)/pytest -m "not kafka and not clickhouse and not slow" $(ARGS)

# 500 seeded runs of the payment worker, killed again and again, against a processor that misbehaves.
payments-crash: .venv/installed
	$(BIN)/python -m tests.payments.crash_run $(ARGS)

# Every fault alone, then many by dice, on Apache Kafka with every role; SABOTAGE=1 breaks the worker on purpose.
crash-test: servers
	$(BIN)/python -m tests.crash $(if $(SABOTAGE),--sabotage) $(ARGS)

# The pure core as a compiled extension, unpacked beside the checkout: what production runs, and what `bench` measures.
compiled: .venv/installed
	deploy/build-compiled

# Each remedy of docs/ownership.md is taken out in turn, and its test must fail.
sabotage: .venv/installed
	tests/install-servers kafka
	$(BIN)/python tests/sabotage.py $(ARGS)

# 200 kills of the loader and of ClickHouse, then every row counted; the figures are in docs/reliability.md.
loader-kills: servers
	$(BIN)/python -m tests.loader_kills $(ARGS)

bench: compiled .venv-quix/installed
	tests/install-servers
	tests/install-servers bench
	$(COMPILED) $(BIN)/python benchmarks/stream.py $(ARGS)
	$(COMPILED) $(BIN)/python benchmarks/rate.py
	$(COMPILED) $(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/authorize.py
	$(BIN)/python benchmarks/warehouse.py

# SECONDS of all targets together; an hour before a release.
SECONDS ?= 300
fuzz: .venv/installed
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

# 3,300 small changes of the charging core, each of which a test must notice: up to half an hour. Survivors: docs/mutants.md.
mutants: .venv/installed
	$(BIN)/mutmut run $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

servers: .venv/installed
	tests/install-servers

# Every package at the version and with the hash of the lock, then this checkout itself as `pstn`.
.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# A peer of `bench`, whose packages contradict the product's.
.venv-quix/installed: benchmarks/quix-streams.lock
	$(PYTHON) -m venv .venv-quix
	.venv-quix/bin/python -m pip install --quiet --require-hashes -r benchmarks/quix-streams.lock
	touch $@

clean:
	rm -rf .venv .venv-quix .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
