# syntax=docker/dockerfile:1
# The image that every component of a pipeline runs in, on Kubeflow Pipelines and on Vertex AI.
#
#   docker build --tag IMAGE .
#   docker build --tag IMAGE --build-arg GPU=1 .
#   docker build --tag IMAGE --build-arg TFX=1.16 --build-arg PYTHON=3.10.18 \
#     --build-arg DEBIAN=bookworm .
#
# The wheels of TFX 1.21 need glibc 2.39, so Debian 13 (trixie) or newer.
ARG PYTHON=3.12.11
ARG DEBIAN=trixie

FROM python:${PYTHON}-slim-${DEBIAN} AS build
ARG TFX=1.21
ARG GPU=0
# pyfarmhash, which TensorFlow Data Validation needs, has no wheel.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/venv
ENV VIRTUAL_ENV=/opt/venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1
WORKDIR /src
# The versions of the lock, without its test tools.
COPY requirements/tfx-${TFX}.txt lock.txt
COPY pyproject.toml LICENSE README.md ./
RUN uv pip install --requirements pyproject.toml --extra kubeflow --extra vertex --constraint lock.txt
# CUDA's libraries in the versions that this TensorFlow asks for; the driver is the node's.
RUN if [ "$GPU" = 1 ]; then uv pip install --constraint lock.txt "tensorflow[and-cuda]"; fi
COPY bulk_inferencer bulk_inferencer
RUN uv pip install --no-deps .

FROM python:${PYTHON}-slim-${DEBIAN}
RUN useradd --uid 1000 --create-home inferencer
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH TF_CPP_MIN_LOG_LEVEL=2
WORKDIR /app
COPY pipelines pipelines
USER 1000:1000
