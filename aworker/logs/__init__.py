"""Where log lines go and what they look like: loguru, text or one JSON object a line, written by a thread of its own.

What handlers and libraries log by the standard library's `logging` (warnings too) goes the same way. Every line that
is written while a handler runs in the loop names its task. Whoever logs never waits: a pipe that nobody reads or a full
disk costs lines, which are counted, and no task.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loguru import logger

from aworker.config import LoggingConfig
from aworker.errors import ConfigError
from aworker.logs.files import keep_a_logger, open_target
from aworker.logs.lines import FORMATS, one_line, process
from aworker.logs.secrets import Secrets, known_secrets
from aworker.logs.writer import Writer
from aworker.traceparent import open_span

if TYPE_CHECKING:
    from loguru import Record

__all__ = [
    "configure_logs",
    "flush_logs",
    "known_secrets",
    "level_of",
    "message_of",
    "name_worker",
    "one_line",
    "running_task",
    "say",
    "says_info",
]

FLUSH_TIMEOUT_S = 5.0

running_task: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("running_task", default=None)
"""What lines say of the task whose handler runs in this context of the loop; what the handler starts inherits it."""

_sink_ids: list[int] = []
_INFO = 20
_writer = Writer()


def configure_logs(config: LoggingConfig, secrets: tuple[str, ...] = ()) -> None:
    """Send every log line where the configuration says; earlier sinks of ours are taken away.

    ``secrets``: values that no line may hold, beside what looks like a secret (`known_secrets`).

    Raises ConfigError when the file cannot be opened; then everything stays as it was.
    """
    if not _sink_ids:
        logger.remove()
        keep_a_logger()
    try:
        target = open_target(config)
    except OSError as error:
        raise ConfigError(f"logging.file must be writable, was not ({error}); check the path") from error
    if not _sink_ids:
        logger.configure(patcher=_name_task)
        logging.captureWarnings(True)
        atexit.register(flush_logs)
    while _sink_ids:
        logger.remove(_sink_ids.pop())
    is_json = config.format == "json"
    _writer.write_to(target, FORMATS[config.format], keeps_extra=is_json, secrets=Secrets(secrets))
    # A traceback follows its line: without values, which may be secret.
    _sink_ids.append(
        logger.add(_writer.put, level=config.level, format="{message}", backtrace=False, diagnose=False, catch=True)
    )
    logging.getLogger().setLevel(_OWN_LEVELS.get(config.level, config.level))
    if _forward not in logging.getLogger().handlers:
        logging.getLogger().addHandler(_forward)


def says_info() -> bool:
    """Whether a line of level INFO would be written anywhere: what costs as much as a task is not made for nothing."""
    return bool(logger._core.min_level <= _INFO)  # type: ignore[attr-defined]


def say(text: str, fields: dict[str, Any]) -> None:
    """Log a line of level INFO with fields: two of them a task. Sinks of other programs get it too."""
    text = one_line(text)
    if logger._core.handlers.keys() == set(_sink_ids):  # type: ignore[attr-defined]
        _writer.say(text, fields)
    else:
        logger.bind(**fields).info(text)


def name_worker(worker_id: str) -> None:
    """Let every JSON line of this process say which worker it is of."""
    process["worker_id"] = worker_id


def flush_logs(within_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Wait until what was logged so far is written, or nothing is for a second, or the time is up; whether it was."""
    return _writer.flush(within_s)


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
    fields = running_task.get()
    extra = record["extra"]
    # Lines of a child name its task already.
    if fields is None or "pid" in extra or ("task_id" in extra and extra["task_id"] is None):
        return
    extra.update(fields)
    if (span := open_span()) is not None:
        extra["trace_id"], extra["span_id"] = span
    task = one_line(f"{fields['task_type']} task {fields['task_id']}")
    record["message"] = f"[{task}] {record['message']}"
