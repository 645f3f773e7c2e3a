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
LOCK := tools/uv pip compile --quiet --annotation-style line \
  --custom-compile-command "make lock" --extra dev setup.py

export TF_CPP_MIN_LOG_LEVEL ?= 3
# Without bytecode on disk, every import of TFX takes half a minute instead of ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-models test-airflow test-kubeflow check format bench bench-full proto lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: .venv/.ready ## Train, validate and score y = 5x in a TFX pipeline on this machine
	@PYTHONWARNINGS=ignore .venv/bin/python -m pipelines.run_local five_times_table

test: $(ENV)/.ready ## Run all tests; fail where they cover less than 90 % of the lines
	$(PYTEST) --cov $(ARGS)

test-fast: $(ENV)/.ready ## Run the tests that together take less than two minutes
	$(PYTEST) -m "not slow" $(ARGS)

test-models: $(ENV)/.ready ## Run pipelines with several models from end to end
	$(PYTEST) tests/test_several_models.py tests/test_pipelines.py -k "several or branch or cascade" \
	  $(ARGS)

test-airflow: $(AIRFLOW)/.ready ## Run the pipelines on Airflow 2: about six minutes
	$(AIRFLOW)/bin/python -m pytest tests/integration/test_airflow.py $(ARGS)

test-kubeflow: $(ENV)/.ready $(KUBEFLOW)/.ready ## Run compiled pipelines as Kubeflow does: about four minutes
	KFP_PYTHON=$(abspath $(KUBEFLOW))/bin/python $(PYTEST) tests/integration/test_kubeflow.py $(ARGS)

check: .venv/.ready ## Check style, formatting and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy bulk_inferencer
	.venv/bin/shellcheck tools/* .ci/run

format: .venv/.ready ## Mend style and formatting where a tool can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: .venv/.ready ## Measure side by side with the peers: about eight minutes
	@PYTHONWARNINGS=ignore .venv/bin/python -m benchmarks $(ARGS)

bench-full: .venv/.ready ## Measure with ten times the records and with one feature too
	@PYTHONWARNINGS=ignore .venv/bin/python -m benchmarks --full $(ARGS)

proto: $(GRPC_TOOLS)/.ready ## Generate bulk_inferencer_pb2.py and .pyi from proto/
	@mkdir -p $(PROTO_OUT)
	PATH="$(GRPC_TOOLS)/bin:$$PATH" python -W ignore -m grpc_tools.protoc -I proto \
	  --python_out=$(PROTO_OUT) --mypy_out=quiet:$(PROTO_OUT) bulk_inferencer/bulk_inferencer.proto

lock: ## Resolve requirements/ anew; LOCK_ARGS=--upgrade takes the newest versions
	$(LOCK) $(LOCK_ARGS) requirements/tfx-1.16.in --output-file requirements/tfx-1.16.txt \
	  --python-version 3.10 --python-platform x86_64-unknown-linux-gnu
	$(LOCK) $(LOCK_ARGS) requirements/tfx-1.21.in --output-file requirements/tfx-1.21.txt \
	  --python-version 3.10 --universal
	$(LOCK) $(LOCK_ARGS) --extra airflow requirements/airflow.in \
	  --output-file requirements/airflow.txt \
	  --python-version 3.10 --python-platform x86_64-unknown-linux-gnu
	tools/uv pip compile --quiet --annotation-style line --custom-compile-command "make lock" \
	  $(LOCK_ARGS) requirements/kubeflow.in --output-file requirements/kubeflow.txt \
	  --python-version 3.10 --universal

clean: ## Remove .venv and all else that was made here
	rm -rf .venv .cache build dist *.egg-info .coverage htmlcov .hypothesis .*_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/.ready: setup.py $(wildcard requirements/*.txt tools/*)
	@tools/make_env $(@D)

.cache/env-%/.ready: setup.py $(wildcard requirements/*.txt tools/*)
	@tools/make_env $(@D) $(TFX_PYTHON)

$(AIRFLOW)/.ready: setup.py requirements/airflow.txt
	@echo "Installing into $(@D) what requirements/airflow.txt says; the first time takes minutes."
	@$(@D)/bin/python -c pass 2>/dev/null || \
	  tools/uv venv --quiet --clear --python "$$(tools/find_python 3.10)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode requirements/airflow.txt
	@tools/uv pip install --quiet --python $(@D) --no-deps --no-build-isolation --editable .
	@touch $@

# kfp without TFX: TFX 1.16 keeps it at 2.5.
$(KUBEFLOW)/.ready: requirements/kubeflow.txt
	@$(@D)/bin/python -c pass 2>/dev/null || tools/uv venv --quiet --clear \
	  --python "$$(tools/find_python 3.12 3.11 3.13 3.10)" $(@D)
	@tools/uv pip sync --quiet --python $(@D) --compile-bytecode requirements/kubeflow.txt
	@touch $@

# An old protoc: what it generates loads on protobuf 3.20 (TFX 1.16) and on protobuf 6 (TFX 1.21).
$(GRPC_TOOLS)/.ready:
	@tools/uv venv --quiet --clear --python "$$(tools/find_python 3.10)" $(@D)
	@tools/uv pip install --quiet --python $(@D) grpcio-tools==1.48.2 mypy-protobuf==3.3.0 \
	  protobuf==3.20.3 "setuptools<81"
	@touch $@
