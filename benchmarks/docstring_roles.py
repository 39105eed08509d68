"""For the site: the cross-references of our docstrings (``:func:`mcld.train```) as plain code."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|obj):(`~?[\w.]+`)")


class Roles(griffe.Extension):  # type: ignore[misc, unused-ignore]
    """Takes the role off each reference."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"\1", obj.docstring.value)
