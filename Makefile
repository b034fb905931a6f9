# Needs Python 3.11 or later and make; everything else is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/.installed
# real data and models that the slower tests use where they are; RAYSAFE_TEST_DATA names another folder
export RAYSAFE_TEST_DATA ?= $(abspath ../shared/data)
QUICK := not ray and not serve and not browser and not slow

.PHONY: help setup quickstart test quick verify bench bench-setup test-data lint types layers check clean constraints

help:
	@echo "make quickstart   set up, then run the whole line on a small embedded model"
	@echo "make test         set up, then run every test that needs no special server"
	@echo "make quick        the tests that start nothing: under a minute"
	@echo "make verify       the slower tests; rewrites the figures that the README shows (ARGS='-k quickstart' for one)"
	@echo "make bench        timings against plain PyTorch, TRL and an empty pipeline"
	@echo "make check        lint, types, import layers"
	@echo "make constraints  compile constraints.txt anew"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "RaySafe needs Python 3.11 or later, found " + sys.version.split()[0] + ": set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

setup: $(STAMP)

quickstart: setup
	$(BIN)/raysafe quickstart

test: setup
	$(BIN)/python -m pytest -m "not slow and not browser"

quick: setup
	$(BIN)/python -m pytest -m "$(QUICK)"

verify: setup bench-setup test-data
	RAYSAFE_VERIFY=1 $(BIN)/python -m pytest -m slow -s $(ARGS)

$(BENCH_STAMP): pyproject.toml constraints.txt tests/bench/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r tests/bench/requirements.txt
	@touch $(BENCH_STAMP)

bench-setup: $(BENCH_STAMP)

bench: setup bench-setup
	$(BIN)/python -m tests.bench.dpo plain
	$(BENCH)/bin/python -m tests.bench.dpo trl --data $(RAYSAFE_TEST_DATA)/hh-rlhf/harmless-base-test.jsonl.gz
	$(BENCH)/bin/python -m tests.bench.trl_losses
	$(BIN)/python -m tests.bench.serve

test-data: bench-setup
	for name in smollm2 movie_ratings; do \
		script=$(RAYSAFE_TEST_DATA)/fetch_$$name.py; \
		if test -f $$script; then $(BENCH)/bin/python $$script || exit 1; fi; \
	done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

layers: setup
	$(BIN)/lint-imports

check: lint types layers

constraints: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
		--extra dev pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) $(BENCH) .pytest_cache .ruff_cache .hypothesis
