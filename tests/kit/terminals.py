"""A command in a terminal of a size, with keys pressed and the window resized; what it wrote, byte for byte."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.commands import TIMEOUT_S, command, environment, eventually


class Terminal:
    """One command and the terminal it runs in."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str], columns: int, rows: int) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(columns, rows)
        self.modes_before = self._modes()
        self._written = bytearray()
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Its own terminal, so that Ctrl-C and a new size are signals to it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._theirs = theirs
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that it has written."""
        return bytes(self._written).decode("utf-8", "replace")

    def shows(self, text: str, *, since: int = 0) -> None:
        """Wait until it has written something, after so many characters."""
        eventually(lambda: text in self.text[since:], told=lambda: self.text[since:])

    def frame_with(self, text: str) -> str:
        """Wait for a new frame with some words, and return what was written since now."""
        before = len(self.text)
        self.shows(text, since=before)
        return self.text[before:]

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ends(self) -> int:
        return self.process.wait(timeout=TIMEOUT_S)

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal echoes and waits for lines as it did, on its first screen, with its cursor."""
        eventually(lambda: self.text.count("\x1b[?1049l") == self.text.count("\x1b[?1049h"), told=lambda: self.text)
        return self._modes() == self.modes_before and self.text.rfind("\x1b[?25h") > self.text.rfind("\x1b[?25l")

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)
        os.close(self._theirs)
        self._reader.join(timeout=10)
        os.close(self._ours)

    def _modes(self) -> list[Any]:
        return termios.tcgetattr(self._ours)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:
                return
            if not data:
                return
            self._written += data


@contextmanager
def in_terminal(*arguments: object, cwd: Path, columns: int = 80, rows: int = 24, **more: str) -> Iterator[Terminal]:
    """Run a command in a terminal while the block runs."""
    env = environment(TERM="xterm-256color", LANG="C.UTF-8", **more)
    env = {name: value for name, value in env.items() if name not in ("LINES", "NO_COLOR")}
    terminal = Terminal(command(*arguments), cwd, env, columns, rows)
    try:
        yield terminal
    finally:
        terminal.close()
