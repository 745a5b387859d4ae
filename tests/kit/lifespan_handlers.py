"""What children have open while they run tasks: one line in a file for each begin and end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aworker import Context, lifespan


def note(what: str) -> None:
    """Write a line into the file that the test named."""
    with Path(os.environ["AWORKER_TEST_LIFESPANS"]).open("a") as file:
        file.write(f"{what} {os.getpid()}\n")


class Connection:
    """Stands for one to a database."""


class Store:
    """Needs a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection


if "AWORKER_TEST_LIFESPANS" in os.environ:

    @lifespan
    def connection() -> Iterator[Connection]:
        if os.environ.get("AWORKER_TEST_BREAKS"):
            raise ConnectionRefusedError("nobody is there")
        note("begin connection")
        yield Connection()
        note("end connection")

    @lifespan
    def store(connection: Connection) -> Iterator[Store]:
        note("begin store")
        yield Store(connection)
        note("end store")


def uses(args: dict[str, Any], context: Context, store: Store, connection: Connection) -> dict[str, Any]:
    """Say whether it was given what the lifespans yielded."""
    context.bind(customer=7)
    context.log.info("in a child")
    same = store.connection is connection is context.state.connection
    return {"same": same, "pid": os.getpid()}


def wants_what_is_not_there(args: dict[str, Any], context: Context, path: Path) -> dict[str, Any]:
    return {}
