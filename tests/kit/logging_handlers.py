"""What handlers and the libraries in them log, by every way there is: the same in the loop and in a child."""

from __future__ import annotations

import asyncio
import logging
import warnings
from typing import Any

from loguru import logger

from aworker import Context, handler

library = logging.getLogger("some.package")


class Textless:
    """What raises when it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def log_in_every_way(context: Context) -> None:
    library.debug("not at this level")
    library.info("asked %s", "https://example.org")
    logging.warning("two\nlines\x1b[2J")
    library.error("%d", "no number")
    library.error(Textless())
    logging.addLevelName(25, "NOTICE")
    library.log(25, "a level of its own")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        library.exception("it failed")
    warnings.warn("out of date", stacklevel=1)
    logger.info("by loguru")
    context.logger.info("by the context")


@handler("logs_in_loop")
async def logs_in_loop(args: dict[str, Any], context: Context) -> dict[str, Any]:
    log_in_every_way(context)

    async def stray() -> None:
        library.info("from a task of its own")
        raise ValueError("stray")

    asyncio.get_running_loop().create_task(stray())
    await asyncio.to_thread(library.info, "from a thread")
    return {}


@handler("logs_in_child")
def logs_in_child(args: dict[str, Any], context: Context) -> dict[str, Any]:
    log_in_every_way(context)
    logger.level("ODD", no=33)
    logger.log("ODD", "a level of loguru's")
    return {}
