"""What a logger that only ever appends has to remember over interruptions."""

import json
from pathlib import Path
from typing import Any

from mcld.files import atomic_write_text, read_file


class Remembered:
    """The identity of a run on a server, and how many epochs it has been told.

    Args:
        folder: of the logger.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.json"
        self.id, self.epochs = "", 0
        try:
            content: Any = json.loads(read_file(self.file, follow=False))
            self.id, self.epochs = str(content["id"]), int(content["epochs"])
        except (OSError, ValueError, LookupError, TypeError):  # there is none, or no whole one: it begins anew
            pass

    def write(self, id: str, epochs: int) -> None:
        """Remember both."""
        self.id, self.epochs = id, epochs
        self.file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.file, json.dumps({"id": id, "epochs": epochs}))
