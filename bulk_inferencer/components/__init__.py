"""TFX components, and what runs them. Nothing else in this package knows TFX."""

from bulk_inferencer import _extras

_extras.require("tfx", extra="tfx", user="A component")
