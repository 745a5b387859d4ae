"""A terminal taken over for a while: its second screen, keys one by one, and everything as it was on the way out."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from rich.console import Console, RenderableType
from rich.live import Live

_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1b": "escape",
}


class Terminal:
    """Draws whole frames and reads keys, where stdin is a terminal too; made by `taken_over`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._input = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._modes: list[Any] | None = None
        self._live: Live | None = None

    @property
    def has_keys(self) -> bool:
        """Whether anybody can press one."""
        return self._input is not None

    def take(self) -> None:
        """Show the second screen, and hear of each key at once."""
        if self._input is not None:
            import termios
            import tty

            self._modes = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def give_back(self) -> None:
        """Put everything back as it was."""
        live, self._live = self._live, None
        try:
            if live is not None:
                live.stop()
        finally:
            if self._modes is not None and self._input is not None:
                import termios

                modes, self._modes = self._modes, None
                termios.tcsetattr(self._input, termios.TCSADRAIN, modes)

    def stop_process(self) -> None:
        """Do what Ctrl-Z asks for, with the terminal given back meanwhile."""
        self.give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.take()

    def draw(self, frame: RenderableType) -> None:
        """Show a frame in place of the last."""
        if self._live is not None:
            self._live.update(frame, refresh=True)

    async def keys(self) -> list[str]:
        """Wait for keys and return them by name; none at all when nothing will come any more."""
        if self._input is None:
            return []
        await anyio.wait_readable(self._input)
        try:
            data = os.read(self._input, 256)
        except BlockingIOError:
            return [""]
        except OSError:
            return []  # the terminal is gone
        return list(keys_in(data))


@contextmanager
def taken_over(console: Console) -> Iterator[Terminal]:
    """Take the terminal over while the block runs."""
    terminal = Terminal(console)
    try:
        terminal.take()
        yield terminal
    finally:
        terminal.give_back()


def keys_in(data: bytes) -> Iterator[str]:
    """Yield the name of each key in what a terminal sent; those without one are left out."""
    while data:
        name = next((one for one in sorted(_NAMES, key=len, reverse=True) if data.startswith(one)), None)
        if name == b"\x1b" and len(data) > 1 and data[1:2] in b"[O":
            data = data[_length_of_sequence(data) :]
        elif name is not None:
            yield _NAMES[name]
            data = data[len(name) :]
        else:
            if 0x20 < data[0] < 0x7F:
                yield chr(data[0])
            elif data[0] == 0x20:
                yield "space"
            elif data[0] == 0x09:
                yield "tab"
            data = data[1:]


def _length_of_sequence(data: bytes) -> int:
    for at in range(2, len(data)):
        if 0x40 <= data[at] <= 0x7E:
            return at + 1
    return len(data)
