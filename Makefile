# One virtual environment in .venv, from Python 3.11+ and a package index alone. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
LOCK := requirements.lock
BUILD_LOCK := build.lock
ARGS ?=
# Many tests wait: three at a time keep two cores busy. Each process has a broker and Elasticsearch of its own.
PARALLEL ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

# Two cores are what a small machine has: numeric libraries get one thread each, processes give the parallelism.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# Processes that start again and again should not compile our modules again and again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test faults lint check bench lock notebooks up down man release-check image clean

# Tests whose doses `make test` trims: with full doses there are more kills, longer outages and more windows. An hour and a half.
FAULTS := $(addprefix tests/integration/test_,faults_broker.py faults_search.py faults_worker.py labels_faults.py \
  transport.py retraining.py drift_figures.py dashboards_preview.py notebooks.py sdk_alone.py \
  foreign_producer.py idle_behind_transactions.py several_gateways.py gateway_attacks.py openapi_calls.py) \
  tests/contract/test_elasticsearch_node.py tests/unit/stream_app/test_offsets.py tests/unit/fuzz

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

$(BIN)/uv: $(BUILD_LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(BUILD_LOCK)
	@touch $@

$(STAMP): $(BIN)/uv pyproject.toml mle_package/pyproject.toml $(LOCK)
	@echo "setting up $(VENV), once: a minute or so" >&2
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(LOCK)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --build-constraints $(BUILD_LOCK) --no-deps -e .
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --group bench
	@touch $@

setup: $(STAMP)  ## create the virtual environment in .venv, from the lock file

demo: $(STAMP)  ## run the whole product on the embedded stack; ARGS=--json, ARGS="--stack real --stay"
	@$(BIN)/inflight demo $(ARGS)

test: $(STAMP)  ## all tests, on real Kafka and Elasticsearch where Java and Maven are present; ARGS="-k trace", ARGS=tests/unit
	@$(BIN)/python -m pytest $(PARALLEL) --durations=10 $(ARGS)

faults: $(STAMP)  ## the fault tests with full doses: more kills, longer outages, more windows; needs Java and Maven
	@REQUIRE_REAL=1 INFLIGHT_TEST_DOSE=full $(BIN)/python -m pytest -s --durations=0 $(FAULTS) $(ARGS)

lint: $(STAMP)  ## format, lint, types, import contracts, dashboards
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/inflight dashboards compile --check
	@$(BIN)/inflight dashboards lint

check: lint  ## lint, then the unit tests with their coverage
	@$(BIN)/coverage run -m pytest -q tests/unit mle_package/tests
	@$(BIN)/coverage report --fail-under=60

bench: $(BENCH_STAMP)  ## measure against bare loops and peers in one run; ARGS=--help lists the benchmarks
	@$(BIN)/python -m benchmarks $(ARGS)

notebooks: $(STAMP)  ## run the notebooks; results with plots in ~/.inflight/notebooks; ARGS=titanic runs one
	@$(BIN)/python -m notebooks.execute $(ARGS)

up: $(STAMP)  ## start a local broker and Elasticsearch; ARGS="--stack real"
	@$(BIN)/inflight up $(ARGS)

down: $(STAMP)  ## stop them
	@$(BIN)/inflight down $(ARGS)

man: $(STAMP)  ## write the manual page to man/inflight.1
	@$(BIN)/python -m deploy.release man

release-check: $(STAMP)  ## build the distributions twice, check them, install them elsewhere, run the demo there; they are in dist/
	@$(BIN)/python -m deploy.release check $(ARGS)

image: $(STAMP)  ## build the images without Docker, as root on Debian; ARGS=serving builds one; tests/integration/test_images.py runs them
	@$(BIN)/python -m deploy.docker.image $(ARGS)

lock: $(BIN)/uv  ## update requirements.lock and build.lock from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --group build --output-file $(BUILD_LOCK)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --group dev --output-file $(LOCK) pyproject.toml mle_package/pyproject.toml --extra adopt --extra archive --extra avro --extra embedded --extra gateway --extra kafka --extra stores --extra training

clean:  ## remove the virtual environment
	rm -rf $(VENV)
