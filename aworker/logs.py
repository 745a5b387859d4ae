"""Where log lines go and what they look like: loguru, text or one JSON object a line.

What handlers and libraries log by the standard library's `logging` (warnings too) goes the same way. Every line that
is written while a handler runs in the loop names its task.
"""

from __future__ import annotations

import contextvars
import logging
import sys
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from aworker.config import LoggingConfig

if TYPE_CHECKING:
    from loguru import Message, Record

    from aworker.task import Task

TEXT_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <8} {message}"

running_task: contextvars.ContextVar[Task | None] = contextvars.ContextVar("running_task", default=None)
"""The task whose handler runs in this context of the loop; what the handler starts inherits it."""

_sink_ids: list[int] = []
_INFO = 20


def configure_logs(config: LoggingConfig) -> None:
    """Send every log line where the configuration says; earlier sinks of ours are taken away.

    Raises ConfigError's cause (OSError) when the file cannot be opened.
    """
    target: Any = sys.stderr
    if config.file:
        target = open(config.file, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - the sink owns it
    if not _sink_ids:
        logger.remove()
        logger.configure(patcher=_name_task)
        logging.captureWarnings(True)
    while _sink_ids:
        logger.remove(_sink_ids.pop())
    if config.format == "json":

        def write_json(message: Message) -> None:
            record = message.record
            line: dict[str, Any] = {
                "time": record["time"].isoformat(),
                "level": record["level"].name,
                "message": record["message"],
                **{name: value for name, value in record["extra"].items() if value is not None},
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
    logging.getLogger().setLevel(_OWN_LEVELS.get(config.level, config.level))
    if _forward not in logging.getLogger().handlers:
        logging.getLogger().addHandler(_forward)


def says_info() -> bool:
    """Whether a line of level INFO would be written anywhere: what costs as much as a task is not made for nothing."""
    return bool(logger._core.min_level <= _INFO)  # type: ignore[attr-defined]


def message_of(record: logging.LogRecord) -> str:
    """Return a record's text on one line; where its arguments do not fit, its template and that."""
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 - the text of a foreign object may raise anything
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        text = f"{template} (its arguments do not fit: {type(error).__name__})"
    if record.name == "py.warnings":
        text = text.partition("\n")[0]  # the rest is the line of code
    return one_line(text.rstrip())


def level_of(record: logging.LogRecord) -> str:
    """Return the highest level of the standard library's own that a record reaches: others have no name here."""
    return next((name for number, name in _LEVELS if record.levelno >= number), "DEBUG")


def one_line(text: str) -> str:
    """Return other people's text without line breaks and controls, so that it cannot look like a line of the log."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


_LEVELS = tuple((number, logging.getLevelName(number)) for number in (50, 40, 30, 20))
# The standard library has no such levels.
_OWN_LEVELS = {"TRACE": 5, "SUCCESS": 25}


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info if record.exc_info and record.exc_info[0] is not None else None
        # The loop tells of a forgotten task's exception whenever it finds it, in whatever context that is.
        log = logger.bind(logger=record.name, **({"task_id": None} if record.name == "asyncio" else {}))
        log.opt(exception=error).log(level_of(record), "{}", message_of(record))


_forward = _Forward()


def _name_task(record: Record) -> None:
    task = running_task.get()
    extra = record["extra"]
    # Lines of a child name its task already.
    if task is None or "pid" in extra or ("task_id" in extra and extra["task_id"] is None):
        return
    extra["task_id"], extra["task_type"] = task.task_id, task.task_type
    record["message"] = f"[{one_line(f'{task.task_type} task {task.task_id}')}] {record['message']}"
