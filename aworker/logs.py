"""Where log lines go and what they look like: loguru, text or one JSON object a line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from aworker.config import LoggingConfig

if TYPE_CHECKING:
    from loguru import Message

TEXT_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <8} {message}"

_sink_ids: list[int] = []


def configure_logs(config: LoggingConfig) -> None:
    """Send every log line where the configuration says; earlier sinks of ours are taken away.

    Raises ConfigError's cause (OSError) when the file cannot be opened.
    """
    target: Any = sys.stderr
    if config.file:
        target = open(config.file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - the sink owns it
    if not _sink_ids:
        logger.remove()
    while _sink_ids:
        logger.remove(_sink_ids.pop())
    if config.format == "json":

        def write_json(message: Message) -> None:
            record = message.record
            line: dict[str, Any] = {
                "time": record["time"].isoformat(),
                "level": record["level"].name,
                "message": record["message"],
                **record["extra"],
            }
            if record["exception"] is not None:
                line["exception"] = str(message).split("\n", 1)[-1]
            target.write(msgspec.json.encode(line, enc_hook=str).decode() + "\n")

        _sink_ids.append(logger.add(write_json, level=config.level, format="{message}", catch=True))
    else:
        colors = target is sys.stderr and sys.stderr.isatty()
        _sink_ids.append(
            logger.add(target, level=config.level, format=TEXT_FORMAT, colorize=colors, backtrace=False, diagnose=False)
        )
