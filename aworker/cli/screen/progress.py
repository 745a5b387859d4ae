"""How far a task is, on the screen, without tearing the log lines that go there too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from aworker.cli.screen.show import plain


class ProgressLines:
    """A bar in a terminal, plain lines elsewhere; nothing at all for a task that tells nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last = ""

    @property
    def is_drawn(self) -> bool:
        """Whether a bar stands on the screen now."""
        return self._bar is not None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Take away on leaving what was drawn."""
        self._last = ""
        try:
            yield
        finally:
            bar, self._bar, self._task = self._bar, None, None
            if bar is not None:
                bar.stop()

    def update(self, message: dict[str, Any]) -> None:
        """Show one progress message."""
        data = message.get("data")
        fraction = data.get("fraction") if isinstance(data, dict) else None
        stage, words = plain(message.get("stage", "")), plain(message.get("message", ""))
        if not self._console.is_terminal:
            percent = f" ({fraction:.0%})" if isinstance(fraction, (int, float)) else ""
            line = f"  {stage}: {words}{percent}"
            if line != self._last:
                self._console.print(line, soft_wrap=True)
            self._last = line
            return
        if self._bar is None:
            columns = (TextColumn("  {task.fields[stage]}", markup=False), BarColumn(), "{task.percentage:>3.0f}%")
            words_column = TextColumn("{task.description}", markup=False)
            self._bar = Progress(
                *columns,
                words_column,
                console=self._console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
            self._task = self._bar.add_task(words, total=1.0, stage=stage)
        if self._task is not None:
            done = float(fraction) if isinstance(fraction, (int, float)) else None
            self._bar.update(self._task, completed=done, description=words, stage=stage)


class AboveTheBar:
    """A stream for log lines that prints them above the bar while one is drawn, and else as they are."""

    def __init__(self, stream: TextIO, console: Console, progress: ProgressLines) -> None:
        self._stream = stream
        self._console = console
        self._progress = progress

    def write(self, text: str) -> int:
        """Write a whole line or more."""
        if self._progress.is_drawn:
            self._console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)
        else:
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def share_the_terminal(console: Console, progress: ProgressLines) -> None:
    """Where results and log lines go to terminals, keep the one from tearing the other's bar."""
    if console.is_terminal and sys.stderr.isatty():
        sys.stderr = AboveTheBar(sys.stderr, console, progress)
