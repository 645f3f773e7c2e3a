# syntax=docker/dockerfile:1
# The image that components run in, on Kubeflow Pipelines and on Vertex AI, and that workers run in,
# on Dataflow and with any other runner of Beam's that starts containers.
#
#   docker build --tag IMAGE .
#   docker build --tag IMAGE --target dataflow .
#   docker build --tag IMAGE --build-arg GPU=1 .
#   docker build --tag IMAGE --build-arg TFX=1.16 --build-arg BEAM=2.74.0 --build-arg \
#     BASE=python:3.10.21-slim-bookworm@sha256:68d914ec641a0b69267ce65184d000a2bc3a9ee2590ab702b82250ab2385735a .
#
# The wheels of TFX 1.21 need glibc 2.39, so Debian 13 (trixie) or newer.
ARG BASE=python:3.12.14-slim-trixie@sha256:e5c9fa26ffb76e11e0f054f30dc2523a2f9693f0c36c0cf1e39b27e152d899fc
# What the lock has for this Python.
ARG BEAM=2.77.0

# Only for its boot program, which is the same for every Python.
FROM apache/beam_python3.12_sdk:${BEAM} AS beam

FROM ${BASE} AS build
ARG TFX=1.21
ARG GPU=0
# pyfarmhash, which TensorFlow Data Validation needs, has no wheel.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /src
# The versions of the lock, without its test tools. Beam's boot program calls pip.
COPY requirements/tfx-${TFX}.txt lock.txt
COPY pyproject.toml setup.py LICENSE README.md ./
RUN uv pip install --requirements pyproject.toml --extra gcp --extra kubeflow --extra vertex \
  --constraint lock.txt pip
# CUDA's libraries in the versions that this TensorFlow asks for; the driver is the node's.
RUN if [ "$GPU" = 1 ]; then uv pip install --constraint lock.txt "tensorflow[and-cuda]"; fi
COPY bulk_inferencer bulk_inferencer
RUN uv pip install --no-deps .

FROM ${BASE} AS image
RUN useradd --uid 1000 --create-home inferencer
COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/LICENSE /opt/apache/beam/NOTICE \
  /opt/apache/beam/
COPY --from=build /opt/venv /opt/venv
# Where Google mounts the driver of a GPU.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64
# Beam's boot program would make another environment, which does not see this one's packages.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENV PATH=/opt/venv/bin:$PATH TF_CPP_MIN_LOG_LEVEL=2
# A runner of Beam's gives options for the boot program. Everybody else gives a command.
COPY --chmod=755 <<'SCRIPT' /usr/local/bin/entrypoint
#!/bin/sh
case "$1" in
  -*) exec /opt/apache/beam/boot "$@" ;;
  *) exec "$@" ;;
esac
SCRIPT
ENTRYPOINT ["entrypoint"]
CMD ["python"]
WORKDIR /app
COPY pipelines pipelines

# As root: Dataflow mounts folders into its workers that belong to root.
FROM image AS dataflow

FROM image
USER 1000:1000
