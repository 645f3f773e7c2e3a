"""TFX components, and what runs them. Nothing else in this package knows TFX."""

import builtins

from bulk_inferencer import _extras

_extras.require("tfx", extra="tfx", user="A component")

if hasattr(builtins, "__IPYTHON__"):  # TFX shows artifacts nowhere else, and asks in the same way.
    from bulk_inferencer.components import visualizations

    visualizations.register()
