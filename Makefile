# Everything runs in .venv, which the first call makes. `make help` lists the targets.

# Another interpreter to test with, for another TFX: make test TFX_PYTHON=/path/to/bin/python
TFX_PYTHON ?=
# More arguments for pytest: make test-fast ARGS="-k gate"
ARGS ?=
# Where `make proto` writes; a test compares a second copy with ours.
PROTO_OUT ?= .
# More arguments for the resolver: make lock LOCK_ARGS=--upgrade
LOCK_ARGS ?=

# A layer in .cache/ adds the test tools to the environment of TFX_PYTHON, which stays as it is.
ENV := $(if $(TFX_PYTHON),.cache/env$(subst /,-,$(abspath $(TFX_PYTHON))),.venv)
PYTEST := $(ENV)/bin/python -m pytest
GRPC_TOOLS := .cache/grpc-tools-1.48.2
AIRFLOW := .cache/airflow
KUBEFLOW := .cache/kubeflow
ENGINES := .cache/engines
ENGINES_WORKER := .cache/engines-worker
SPARK_4 := .cache/spark-4
BEAM := .cache/beam
BEAM_VERSION := $(shell sed -n 's/^apache-beam==\([0-9.]*\).*/\1/p' requirements/engines.txt)
PEERS := ray spark daft
# What an editable install is made from, beside the Python that it leaves in its place.
BUILT_FROM := pyproject.toml setup.py bulk_inferencer/_formats/_framing.c
COMPILE := tools/uv pip compile --quiet --annotation-style line --custom-compile-command "make lock"
LOCK := $(COMPILE) --generate-hashes $(LOCK_ARGS)
LINUX := --python-version 3.10 --python-platform x86_64-unknown-linux-gnu
ANY := --python-version 3.10 --universal
USER_EXTRAS := --extra tfx --extra gcp --extra aws --extra vertex --extra kubeflow

export TF_CPP_MIN_LOG_LEVEL ?= 3
# Without bytecode on disk, every import of TFX takes half a minute instead of ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo docs test test-fast test-faults test-airflow test-kubeflow test-gpu test-engines test-install soak fuzz wheels check format bench bench-full \
  bench-tables bench-engines proto lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: .venv/.ready ## Train, validate and score y = 5x in a TFX pipeline on this machine
	@PYTHONWARNINGS=ignore .venv/bin/python -m pipelines.run_local five_times_table

# Not --quiet, which does not count warnings as errors either.
docs: .cache/docs/.ready ## Build the documentation as a site, in build/docs
	@mkdir -p build
	@NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build >build/docs.log 2>&1 || \
	  { grep -v ^INFO build/docs.log >&2; exit 1; }
	@echo "To search in the site, serve it: .cache/docs/bin/python -m http.server -d build/docs"
	@echo "build/docs/index.html"

test: $(ENV)/.ready ## Run all tests; fail where they cover less than 90 % of the lines
	$(PYTEST) --cov $(ARGS)

test-fast: $(ENV)/.ready ## Run the tests that together take less than a minute
	$(PYTEST) -m "not slow" $(ARGS)

test-faults: $(ENV)/.ready ## Break things on purpose, and write the table in docs/reliability.md: about four minutes
	TEST_FAULTS=1 $(PYTEST) tests/faults $(ARGS)

test-airflow: $(AIRFLOW)/.ready ## Run the pipelines on Airflow 2: about six minutes
	$(AIRFLOW)/bin/python -m pytest tests/integration/test_airflow.py $(ARGS)

test-kubeflow: $(ENV)/.ready $(KUBEFLOW)/.ready ## Run compiled pipelines as Kubeflow does: about four minutes
	KFP_PYTHON=$(abspath $(KUBEFLOW))/bin/python $(PYTEST) tests/integration/test_kubeflow.py $(ARGS)

test-gpu: $(ENV)/.ready ## Run models on a GPU
	TEST_GPU=1 $(PYTEST) tests/integration/test_gpu.py $(ARGS)

test-engines: $(ENGINES)/.ready $(ENGINES_WORKER)/.ready $(SPARK_4)/.ready $(BEAM)/.ready ## Run on clusters of Beam, Ray and Spark, and kill their workers: about ten minutes
	TEST_ENGINES=1 SPARK_4_PYTHON=$(abspath $(SPARK_4))/bin/python \
	  $(ENGINES)/bin/python -m pytest tests/integration/engines $(ARGS)

test-install: $(ENV)/.ready ## Install as users do, with plain pip, into clean environments: about four minutes
	PYTHON_3_10="$$(tools/find_python 3.10)" PYTHON_3_12="$$(tools/find_python 3.12)" \
	  $(PYTEST) tests/integration/test_install.py $(ARGS)

soak: $(ENV)/.ready ## Watch memory and open files over five minutes of runs
	@PYTHONWARNINGS=ignore $(ENV)/bin/python -m tests.faults.soak $(ARGS)

# Python itself is built without sanitizers, so they are loaded first, and its own leaks are not told.
fuzz: .venv/.ready ## Search for input that breaks the compiled part, with sanitizers: a minute
	CFLAGS="-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all" \
	  .venv/bin/python setup.py -q build_ext --build-lib build/fuzz --build-temp build/fuzz-objects
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 .venv/bin/python -m tests.formats.fuzz_framing \
	  build/fuzz/bulk_inferencer/_formats/_framing.abi3.so $(ARGS)

wheels: .venv/.ready ## Build the sources and a wheel for this platform, in dist
	.venv/bin/python -m build --outdir dist

check: .venv/.ready ## Check style, formatting and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy bulk_inferencer
	.venv/bin/shellcheck tools/* .ci/run

format: .venv/.ready ## Fix style and formatting where a tool can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: .venv/.ready ## Measure side by side with the peers: about eight minutes
	@PYTHONWARNINGS=ignore .venv/bin/python -m benchmarks $(ARGS)

bench-full: .venv/.ready ## Measure with ten times the records and with one feature too
	@PYTHONWARNINGS=ignore .venv/bin/python -m benchmarks --full $(ARGS)

bench-tables: .cache/bench-core/.ready $(PEERS:%=.cache/bench-%/.ready) ## Measure tables side by side with Ray, Spark and Daft: nine minutes
	@.cache/bench-core/bin/python -W ignore -m benchmarks.tables $(ARGS)

bench-engines: $(ENGINES)/.ready $(BEAM)/.ready ## Measure the engines on clusters, beside Spark's own: about six minutes
	@$(ENGINES)/bin/python -W ignore -m benchmarks.engines $(ARGS)

proto: $(GRPC_TOOLS)/.ready ## Generate bulk_inferencer_pb2.py and .pyi from proto/
	@mkdir -p $(PROTO_OUT)
	PATH="$(GRPC_TOOLS)/bin:$$PATH" python -W ignore -m grpc_tools.protoc -I proto \
	  --python_out=$(PROTO_OUT) --mypy_out=quiet:$(PROTO_OUT) bulk_inferencer/bulk_inferencer.proto

# Locks carry the hashes of all files. Constraints cannot: with hashes, pip refuses a checkout.
lock: ## Resolve requirements/ anew; LOCK_ARGS=--upgrade takes the newest versions
	$(LOCK) $(LINUX) --extra dev pyproject.toml requirements/tfx-1.16.in \
	  --output-file requirements/tfx-1.16.txt
	$(LOCK) $(ANY) --extra dev pyproject.toml requirements/tfx-1.21.in \
	  --output-file requirements/tfx-1.21.txt
	$(LOCK) $(LINUX) --extra dev --extra airflow pyproject.toml requirements/airflow.in \
	  --output-file requirements/airflow.txt
	$(LOCK) $(LINUX) --extra dev --extra ray --extra spark pyproject.toml requirements/tfx-1.16.in \
	  requirements/engines.in --output-file requirements/engines.txt
	$(LOCK) --python-version 3.12 --python-platform x86_64-unknown-linux-gnu \
	  --constraint requirements/tfx-1.21.txt pyproject.toml requirements/spark-4.in \
	  --output-file requirements/spark-4.txt
	$(LOCK) $(ANY) requirements/kubeflow.in --output-file requirements/kubeflow.txt
	for peer in $(PEERS); do $(LOCK) $(ANY) requirements/bench-$$peer.in \
	  --output-file requirements/bench-$$peer.txt || exit; done
	$(LOCK) --python-version 3.11 --universal requirements/docs.in \
	  --output-file requirements/docs.txt
	$(COMPILE) $(ANY) --constraint requirements/tfx-1.21.txt pyproject.toml --extra gcp --extra aws \
	  --extra vertex --output-file requirements/constraints-core.txt
	$(COMPILE) $(LINUX) --constraint requirements/tfx-1.16.txt $(USER_EXTRAS) pyproject.toml \
	  requirements/tfx-1.16.in --output-file requirements/constraints-tfx-1.16.txt
	$(COMPILE) $(ANY) --constraint requirements/tfx-1.21.txt $(USER_EXTRAS) pyproject.toml \
	  requirements/tfx-1.21.in --output-file requirements/constraints-tfx-1.21.txt
	$(COMPILE) $(LINUX) --constraint requirements/airflow.txt --extra airflow pyproject.toml \
	  requirements/airflow.in --output-file requirements/constraints-airflow.txt

clean: ## Remove .venv and all else that was made here
	rm -rf .venv .cache build dist *.egg-info .coverage htmlcov .hypothesis .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.ready: $(BUILT_FROM) $(wildcard requirements/*.txt tools/*)
	@tools/make_env $(@D)

.cache/env-%/.ready: $(BUILT_FROM) $(wildcard requirements/*.txt tools/*)
	@tools/make_env $(@D) $(TFX_PYTHON)

# Airflow 2, or Ray and Spark, each with TFX 1.16.
$(AIRFLOW)/.ready $(ENGINES)/.ready: .cache/%/.ready: $(BUILT_FROM) requirements/%.txt
	@echo "Installing into $(@D) what requirements/$*.txt says; the first time takes minutes."
	@$(@D)/bin/python -c pass 2>/dev/null || \
	  tools/uv venv --quiet --clear --python "$$(tools/find_python 3.10)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode --require-hashes \
	  requirements/$*.txt
	@tools/uv pip install --quiet --python $(@D) --no-deps --no-build-isolation --editable .
	@touch $@

# TFX 1.16 forbids the pyarrow that Spark 4 wants, so there is no TFX.
$(SPARK_4)/.ready: $(BUILT_FROM) requirements/spark-4.txt
	@echo "Installing into $(@D) what requirements/spark-4.txt says; the first time takes minutes."
	@$(@D)/bin/python -c pass 2>/dev/null || \
	  tools/uv venv --quiet --clear --python "$$(tools/find_python 3.12)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode --require-hashes \
	  requirements/spark-4.txt
	@tools/uv pip install --quiet --python $(@D) --no-deps --editable .
	@touch $@

# For workers of Beam: what this package needs, but not the package.
$(ENGINES_WORKER)/.ready: pyproject.toml requirements/constraints-tfx-1.16.txt
	@$(@D)/bin/python -c pass 2>/dev/null || \
	  tools/uv venv --quiet --clear --python "$$(tools/find_python 3.10)" $(@D)
	@tools/uv pip install --quiet --python $(@D) --compile-bytecode \
	  --constraint requirements/constraints-tfx-1.16.txt --requirements pyproject.toml \
	  pip setuptools wheel
	@touch $@

# Prism, and the program that starts a worker in a container, of the Beam that is locked.
$(BEAM)/.ready: requirements/engines.txt
	GOBIN=$(abspath $(@D))/bin go install \
	  github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM_VERSION) \
	  github.com/apache/beam/sdks/v2/python/container@v$(BEAM_VERSION)
	@touch $@

.cache/docs/.ready: requirements/docs.txt
	@echo "Installing into $(@D) what $< says."
	@$(@D)/bin/python -c pass 2>/dev/null || \
	  tools/uv venv --quiet --clear --python "$$(tools/find_python 3.12 3.13 3.11)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode --require-hashes $<
	@touch $@

# kfp without TFX: TFX 1.16 keeps it at 2.5.
$(KUBEFLOW)/.ready: requirements/kubeflow.txt
	@$(@D)/bin/python -c pass 2>/dev/null || tools/uv venv --quiet --clear \
	  --python "$$(tools/find_python 3.12 3.11 3.13 3.10)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode --require-hashes \
	  requirements/kubeflow.txt
	@touch $@

# As users install it without TFX, with the newest TensorFlow that it runs with.
.cache/bench-core/.ready: $(BUILT_FROM) requirements/constraints-core.txt
	@$(@D)/bin/python -c pass 2>/dev/null || tools/uv venv --quiet --clear \
	  --python "$$(tools/find_python 3.12 3.11 3.13 3.10)" $(@D)
	@tools/uv pip install --quiet --python $(@D) --compile-bytecode \
	  --constraint requirements/constraints-core.txt --editable .
	@touch $@

.cache/bench-%/.ready: requirements/bench-%.txt
	@echo "Installing into $(@D) what $< says; the first time takes minutes."
	@$(@D)/bin/python -c pass 2>/dev/null || tools/uv venv --quiet --clear \
	  --python "$$(tools/find_python 3.12 3.11 3.13 3.10)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode --require-hashes $<
	@touch $@

# An old protoc: what it generates loads on protobuf 3.20 (TFX 1.16) and on protobuf 6 (TFX 1.21).
$(GRPC_TOOLS)/.ready:
	@tools/uv venv --quiet --clear --python "$$(tools/find_python 3.10)" $(@D)
	@tools/uv pip install --quiet --python $(@D) grpcio-tools==1.48.2 mypy-protobuf==3.3.0 \
	  protobuf==3.20.3 "setuptools<81"
	@touch $@
