"""Builds the compiled part of the package. All else is in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "bulk_inferencer._formats._framing",
            ["bulk_inferencer/_formats/_framing.c"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")],
            py_limited_api=True,
            optional=True,  # without a C compiler, Python does the same
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
