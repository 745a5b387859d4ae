"""What a process's lifespans have yielded, by name."""

from __future__ import annotations

import types
from typing import Any


class State(types.SimpleNamespace):
    """What lifespans yielded, by name; a handler may keep more in it for those that come after it in this process."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = ", ".join(sorted(vars(self))) or "none"
        raise AttributeError(f"context.state.{name} must be yielded by a @lifespan, known here: {known}")
