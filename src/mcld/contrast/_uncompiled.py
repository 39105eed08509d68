"""A way out of a compiled graph, apart from the rest because importing it imports the compiler."""

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function outside the graph: loops of hundreds of blocks are not for one."""
    return function(*arguments)
