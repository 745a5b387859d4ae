"""The thread that writes log lines, and the bounded queue before it.

Invariant: `put` never waits for the target. While nothing can be written lines wait in the queue; what does not fit is
dropped and counted, and the count is a line of its own once lines flow again.

Why not loguru's own ``enqueue=True``: its queue is a pipe, which blocks whoever logs once it is full.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aworker.logs.floods import Floods, Key
from aworker.logs.lines import RAW_MOST, Format, Line, as_text, cut, cut_trace, plain_extra
from aworker.logs.secrets import Secrets
from aworker.metrics import totals

if TYPE_CHECKING:
    from loguru import Message

    from aworker.logs.files import Target

MOST_LINES = 10_000
SPARE_LINES = 1_000
"""Of these, for warnings and errors alone."""
MOST_CHARACTERS = 16_777_216
CHUNK_CHARACTERS = 4_096
"""Written at once: whole lines, no more than a pipe takes in one piece beside other writers."""
INFO = 20
WARNING = 30
GATHER_S = 0.005
"""Lines are written together that come within this: a thread that woke for each would take turns with the loop."""
STUCK_S = 1.0
RETRY_S = 0.5
FLOOD_MOST = 1_500
LOOK_S = 1.0
"""How often a flood is looked at."""


def _words(text: str) -> str:
    # What `_name_task` and the pool put before a handler's line.
    return text.partition("] ")[2] if text.startswith("[") else text


def _line(at: datetime, level: str, text: str, trace: str, extra: dict[str, Any]) -> Line:
    return Line(at, level, text[:RAW_MOST], trace, extra, max(0, len(text) - RAW_MOST))


class _Change:
    """Stands in the queue where lines begin to go elsewhere."""

    def __init__(self, target: Target, format_: Format) -> None:
        self.target = target
        self.format = format_
        self.is_done = False


class Writer:
    """Takes records from any thread, writes lines from its own."""

    def __init__(self) -> None:
        self._lines: deque[Line | _Change] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._target: Target | None = None
        self._format: Format = as_text
        self._keeps_extra = False
        self._changes: deque[_Change] = deque()
        # One thread at a time; the same one may come again, from a finalizer that warns.
        self._lock = threading.RLock()
        # Each of these is written by one side alone.
        self._put_lines = self._put_size = self._dropped = 0
        self._done_lines = self._taken_size = self._told = 0
        self._reason = self._lost_for = ""
        self._own: list[Line] = []
        """What the thread itself has to say."""
        self._floods = Floods()
        self._ends_floods = False
        self._secrets = Secrets()
        self._is_fork = False
        self._is_shared = False
        os.register_at_fork(after_in_child=self._forked)

    # Whoever logs.

    def put(self, message: Message) -> None:
        """Take a record; loguru calls this from the thread that logs."""
        record = message.record
        text = record["message"]
        number, extra = record["level"].no, record["extra"]
        key = number, _words(text) if number >= WARNING and "task_id" in extra else text
        trace = str(message)[len(text) :].strip("\n")[-RAW_MOST:] if record["exception"] is not None else ""
        extra_kept = plain_extra(extra) if self._keeps_extra else {}
        line = _line(record["time"], record["level"].name, text, trace, extra_kept)
        self._take(key, line, repeats="repeats" in extra)

    def say(self, text: str, fields: dict[str, Any]) -> None:
        """Take a line of level INFO that no other sink is there for: a tenth of what it costs by way of loguru."""
        extra = plain_extra(fields) if self._keeps_extra else {}
        self._take((INFO, text), _line(datetime.now().astimezone(), "INFO", text, "", extra))

    def _take(self, key: Key, line: Line, *, repeats: bool = False) -> None:
        with self._lock:
            if not repeats and not self._floods.passes(key, time.monotonic()):
                if self._is_fork:
                    return
                self._floods.keep(key, line)
            elif len(self._lines) >= (MOST_LINES if key[0] >= WARNING else MOST_LINES - SPARE_LINES) or (
                self._put_size - self._taken_size > MOST_CHARACTERS
            ):
                self._dropped += 1
                totals.log_lines_dropped += 1
                return
            elif self._is_fork:
                self._write_directly(line)
                return
            else:
                self._put_size += line.size
                self._put_lines += 1
                self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()
        if self._is_shared:
            self._await(self._put_lines)

    def _await(self, count: int, within_s: float = 1.0) -> None:
        # A terminal shared with a bar is written to before whoever logs draws on it again.
        until = time.monotonic() + within_s
        while self._done_lines < count and threading.current_thread() is not self._thread and time.monotonic() < until:
            time.sleep(0.0005)

    def write_to(self, target: Target, format_: Format, *, keeps_extra: bool, secrets: Secrets | None = None) -> None:
        """Send what is logged from now on there; what was logged before still goes where it went, if it can."""
        self._keeps_extra = keeps_extra
        self._secrets = secrets or Secrets()
        self._is_shared = getattr(target, "is_shared", False)
        change = _Change(target, format_)
        self._changes.append(change)
        self._lines.append(change)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="aworker-log", daemon=True)
            self._thread.start()
        self._wake.set()

    def flush(self, within_s: float) -> bool:
        """Wait until what was put so far is written; give up when nothing moves or the time is up."""
        if self._thread is None or self._is_fork or threading.current_thread() is self._thread:
            return True
        goal, seen = self._put_lines, self._done_lines
        began = moved = time.monotonic()
        self._ends_floods = True
        while self._done_lines < goal or self._dropped > self._told or self._ends_floods:
            now = time.monotonic()
            if self._done_lines != seen:
                seen, moved = self._done_lines, now
            if now - moved > min(STUCK_S, within_s) or now - began > within_s:
                return False
            self._wake.set()
            time.sleep(0.001)
        return True

    def _write_directly(self, line: Line) -> None:
        # In a process that a handler forked: the thread is not there.
        target = self._target
        if target is not None:
            left = self._formatted(line).encode("utf-8", "backslashreplace")
            while left:
                left = left[target.write(left) :]

    def _forked(self) -> None:
        self._is_fork = True
        self._lock = threading.RLock()
        self._lines.clear()

    # The thread.

    def _run(self) -> None:
        while True:
            self._wake.wait(LOOK_S if self._floods.is_flooding else None)
            if not self._is_shared:
                time.sleep(GATHER_S)
            self._wake.clear()
            is_end = self._ends_floods
            self._write_all()
            self._tell_floods(is_end)  # behind the lines that it counts
            self._write_all()
            if is_end:
                self._ends_floods = False

    def _write_all(self) -> None:
        while self._lines or self._own or self._dropped > self._told:
            if self._lines and isinstance(change := self._lines[0], _Change):
                self._lines.popleft()
                self._apply(change)
            else:
                self._write_some()

    def _tell_floods(self, is_end: bool) -> None:
        if self._floods.is_flooding:
            for line, count in self._floods.due(time.monotonic(), all_of_them=is_end):
                text = f"{line.text.partition(chr(10))[0][:FLOOD_MOST]} ({count:,} more of this line, this is the last)"
                self._own.append(Line(line.at, line.level, text, line.trace, {**line.extra, "repeated": count}))

    def _apply(self, change: _Change) -> None:
        if not change.is_done:
            change.is_done = True
            self._changes.remove(change)
            old = self._target
            self._target, self._format, self._reason = change.target, change.format, ""
            if old is not None:
                old.close()

    def _write_some(self) -> None:
        data, lines, told = self._chunk()
        left = data
        while left:
            assert self._target is not None
            try:
                left = left[self._target.write(left) :]
            except Exception as error:  # noqa: BLE001 - whatever a stream raises: the thread must live
                if self._changes:  # told to write elsewhere: there it can be written
                    self._apply(self._changes[0])
                    left = data
                    continue
                self._complain(str(error))
                time.sleep(RETRY_S)
        self._reason = ""
        self._told = told
        self._done_lines += lines

    def _chunk(self) -> tuple[bytes, int, int]:
        """Return what to write next, how many lines of the queue that is, and the losses told with it."""
        parts = [self._formatted(line) for line in self._own]
        self._own.clear()
        size, lines = sum(map(len, parts)), 0
        told = self._told
        while self._lines and size < CHUNK_CHARACTERS and isinstance(line := self._lines[0], Line):
            text = self._formatted(line)
            if lines and size + len(text) > CHUNK_CHARACTERS:
                break
            self._lines.popleft()
            self._taken_size += line.size
            parts.append(text)
            size += len(text)
            lines += 1
        if self._dropped > told and len(self._lines) < MOST_LINES // 2:
            told = self._dropped
            why = self._lost_for or "they came faster than they could be written"
            self._lost_for = ""
            text = f"{told - self._told} lines of the log were dropped: {why}"
            parts.append(self._formatted(Line(datetime.now(UTC).astimezone(), "WARNING", text, "", {})))
        return "".join(parts).encode("utf-8", "backslashreplace"), lines, told

    def _formatted(self, line: Line) -> str:
        secrets = self._secrets
        try:
            trace = cut_trace(secrets.out_of(line.trace)) if line.trace else ""
            extra = secrets.out_of_values(line.extra) if line.extra else {}
            return self._format(Line(line.at, line.level, cut(secrets.out_of(line.text), line.cut_off), trace, extra))
        except Exception as error:  # noqa: BLE001 - one odd line must not end the thread
            return as_text(Line(line.at, line.level, f"a line that cannot be written: {error!r}", "", {}))

    def _complain(self, reason: str) -> None:
        if reason != self._reason and self._target is not None:
            self._target.complain(reason)
        self._reason = self._lost_for = reason
