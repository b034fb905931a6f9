# Needs Python 3.11 or later and make; everything else is set up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH := .venv-bench
BENCH_STAMP := $(BENCH)/.installed
PEERS := .venv-guards
PEERS_STAMP := $(PEERS)/.installed
RL := .venv-rl
RL_STAMP := $(RL)/.installed
IRL := .venv-irl
IRL_STAMP := $(IRL)/.installed
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.installed
ROBUST := .venv-robust
ROBUST_STAMP := $(ROBUST)/.installed
FAIR := .venv-fair
FAIR_STAMP := $(FAIR)/.installed
# real data and models that the slower tests use where they are; RAYSAFE_TEST_DATA names another folder
export RAYSAFE_TEST_DATA ?= $(abspath ../shared/data)
QUICK := not ray and not serve and not browser and not slow

.PHONY: help setup quickstart test quick verify bench bench-rl bench-setup vllm-setup test-data lint types layers check clean constraints

help:
	@echo "make quickstart   set up, then run the whole line on a small embedded model"
	@echo "make test         set up, then run every test that needs no special server"
	@echo "make quick        the tests that start nothing: under a minute"
	@echo "make verify       the slower tests; rewrites the figures that the README shows (ARGS='-k quickstart' for one)"
	@echo "make bench        timings against plain PyTorch, TRL and an empty pipeline"
	@echo "make vllm-setup   an environment with vLLM for CPUs, for its tests (make verify runs them where it is)"
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
	$(BIN)/python -m pytest -m "$(QUICK)"
	$(BIN)/python -m pytest --dist loadfile -m "serve and not ray and not slow and not browser"
	$(BIN)/python -m pytest -m "ray and not slow and not browser"

quick: setup
	$(BIN)/python -m pytest -m "$(QUICK)"

verify: setup bench-setup test-data $(ROBUST_STAMP)
	RAYSAFE_VERIFY=1 $(BIN)/python -m pytest -m slow -s $(ARGS)
	if test -z "$(ARGS)"; then RAYSAFE_VERIFY=1 $(BIN)/python -m pytest -q -m "not ray and not browser and not slow"; fi
	if test -z "$(ARGS)"; then $(BIN)/python -m pytest -q -m browser; fi
	if test -f $(VLLM_STAMP); then OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -q -o addopts= -p no:cacheprovider tests/models/test_vllm_engine.py; fi

$(BENCH_STAMP): pyproject.toml constraints.txt tests/bench/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r tests/bench/requirements.txt
	@touch $(BENCH_STAMP)

bench-setup: $(BENCH_STAMP)

# NeMo Guardrails and LLM Guard pin what RaySafe doesn't
$(PEERS_STAMP): tests/bench/guards-requirements.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/guards-requirements.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-guard==0.3.16
	@touch $@

$(RL_STAMP): tests/bench/rl-requirements.txt
	test -x $(RL)/bin/python || $(PYTHON) -m venv $(RL)
	$(RL)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/rl-requirements.txt
	@touch $@

$(IRL_STAMP): tests/bench/irl-requirements.txt
	test -x $(IRL)/bin/python || $(PYTHON) -m venv $(IRL)
	$(IRL)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/irl-requirements.txt
	@touch $@

$(ROBUST_STAMP): tests/bench/robust-requirements.txt
	test -x $(ROBUST)/bin/python || $(PYTHON) -m venv $(ROBUST)
	$(ROBUST)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/robust-requirements.txt
	@touch $@

$(FAIR_STAMP): tests/bench/fairness-requirements.txt
	test -x $(FAIR)/bin/python || $(PYTHON) -m venv $(FAIR)
	$(FAIR)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/fairness-requirements.txt
	@touch $@

bench-rl: setup $(RL_STAMP)
	$(BIN)/python -m tests.bench.rl --peers $(RL)/bin/python

bench: setup bench-setup test-data $(PEERS_STAMP) $(RL_STAMP) $(IRL_STAMP) $(ROBUST_STAMP) $(FAIR_STAMP)
	$(BIN)/python -m tests.bench.dpo plain
	$(BENCH)/bin/python -m tests.bench.dpo trl --data $(RAYSAFE_TEST_DATA)/hh-rlhf/harmless-base-test.jsonl.gz
	$(BENCH)/bin/python -m tests.bench.trl_losses
	$(BENCH)/bin/python -m tests.bench.trl_rl_losses
	$(BIN)/python -m tests.bench.rlhf plain
	$(BENCH)/bin/python -m tests.bench.rlhf trl
	$(BIN)/python -m tests.bench.weight_sync
	$(BIN)/python -m tests.bench.generate
	$(BIN)/python -m tests.bench.serve
	$(BIN)/python -m tests.bench.ways_in
	$(BIN)/python -m tests.bench.budgets
	$(BIN)/python -m tests.bench.sandbox
	$(BIN)/python -m tests.bench.guards --peers $(PEERS)/bin/python
	$(BIN)/python -m tests.bench.rl --peers $(RL)/bin/python
	$(BIN)/python -m tests.bench.irl --peer $(IRL)/bin/python
	$(BIN)/python -m tests.bench.attacks --peer $(ROBUST)/bin/python
	$(BIN)/python -m tests.bench.certify
	$(BIN)/python -m tests.bench.robust_actors
	$(BIN)/python -m tests.bench.fairness --peers $(FAIR)/bin/python

# vLLM pins its own torch and transformers, and its companions' builds are for CUDA
$(VLLM_STAMP): pyproject.toml tests/bench/vllm-requirements.txt
	test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/vllm-requirements.txt \
		'ray[default]==2.60.*' scipy pyarrow tyro xxhash hypothesis sqlalchemy alembic
	$(VLLM)/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

vllm-setup: $(VLLM_STAMP)

test-data: bench-setup
	for name in smollm2 movie_ratings; do \
		script=$(RAYSAFE_TEST_DATA)/fetch_$$name.py; \
		if test -f $$script; then $(BENCH)/bin/python $$script || exit 1; fi; \
	done
	$(BENCH)/bin/python -m tests.bench.guards_data
	$(BENCH)/bin/python -m tests.bench.fairness_data

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
	rm -rf $(VENV) $(BENCH) $(VLLM) $(PEERS) $(RL) $(IRL) $(ROBUST) $(FAIR) .pytest_cache .ruff_cache .hypothesis
