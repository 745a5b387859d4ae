"""The screen of ``aworker top``: asks, draws and listens until somebody ends it.

Invariant: however it ends (key, signal, fault), the terminal is as it was before.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.text import Text

from aworker.cli.options import ANSWER_TIMEOUT_S as FIRST_TIMEOUT_S
from aworker.cli.screen.overview import ORDERS, PARTS, Frame, View, clock, draw_overview
from aworker.cli.screen.show import line
from aworker.cli.screen.terminal import Terminal, taken_over
from aworker.config import Config
from aworker.errors import AworkerError
from aworker.overview.snapshot import Snapshot, take
from aworker.overview.verdict import judge
from aworker.queues.connection import address_of, connect

ANSWER_TIMEOUT_S = 5.0
REDRAW_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP)
UNANSWERED = (RedisError, OSError, AworkerError, TimeoutError)
KEYS = "q quit  space pause  s sort  l level  t type  v table  ↑↓ scroll  ? help"
HELP = """
  q, Ctrl-C     end
  space, p      keep this picture; again: go on
  s             sort by time, name, busy, failed
                time: what runs longest, types by their p95, workers by age
                name: by type, name and host      busy: by worker, what runs, busy slots
                failed: deliveries, failures, children that ended
  l             one level alone, the next one, all
  t             one task type alone, the next one, all
  v             one table alone: running, workers, types, all of them
  up, down      scroll the table that is shown alone (k, j; page up, page down; home)
  ?, h          this text

  Running tasks and workers are as their workers said last, a second or two ago, 50 tasks of each.
"""


class Screen(msgspec.Struct):
    """What is known and how it is shown."""

    address: str
    view: View
    snapshot: Snapshot | None = None
    away: str = ""
    """Why Redis does not answer; empty when it does."""
    is_help: bool = False
    is_over: bool = False
    failure: Exception | None = None

    def press(self, key: str, rows: int) -> None:
        """Do what a key says; ``rows`` is how far a page goes."""
        view, snapshot = self.view, self.snapshot
        if key in ("q", "Q"):
            self.is_over = True
        elif key in ("?", "h"):
            self.is_help = not self.is_help
        elif key == "escape":
            self.is_help = False
        elif key in ("space", "p"):
            view.is_paused = not view.is_paused
        elif key == "s":
            view.order = ORDERS[(ORDERS.index(view.order) + 1) % len(ORDERS)]
        elif key in ("v", "tab"):
            view.part, view.offset = PARTS[(PARTS.index(view.part) + 1) % len(PARTS)], 0
        elif key == "l" and snapshot is not None:
            view.queue, view.offset = _after(view.queue, [level.label for level in snapshot.levels]), 0
        elif key == "t" and snapshot is not None:
            names = {row.name for row in snapshot.types} | {task.task_type for _, task in snapshot.running}
            view.task_type, view.offset = _after(view.task_type, sorted(names)), 0
        else:
            steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -rows, "page down": rows, "home": -view.offset}
            view.offset = max(0, min(view.offset + steps.get(key, 0), _rows(snapshot, view.part) - 1))

    def drawn(self, frame: Frame) -> RenderableType:
        """Return it as a whole frame."""
        head = self._head(frame)
        if self.is_help:
            return Group(head, Text(HELP, no_wrap=True, overflow="crop"))
        foot = Text(KEYS if frame.unicode else KEYS.replace("↑↓", "j k"), "dim", no_wrap=True, overflow="crop")
        lines: list[RenderableType] = [head]
        if self.away:
            lines.append(Text(f"Redis does not answer: {line(self.away)}; trying again", "bold red", no_wrap=True))
        if self.snapshot is not None:
            inner = msgspec.structs.replace(frame, height=(frame.height or 0) - len(lines) - 1)
            lines.append(draw_overview(self.snapshot, judge(self.snapshot), self.view, inner))
        return Group(*lines, foot)

    def _head(self, frame: Frame) -> Text:
        view = self.view
        words = [f"Redis at {self.address}"]
        if self.snapshot is not None:
            words.append(f"as of {clock(self.snapshot.now_s)}" if self.away else clock(self.snapshot.now_s))
        words.append(f"by {view.order}")
        words += [f"{name} {value}" for name, value in (("level", view.queue), ("type", view.task_type)) if value]
        head = Text("  ".join(map(line, words)), "bold", no_wrap=True, overflow="ellipsis")
        if view.is_paused:
            head = Text("PAUSED  ", "bold reverse", no_wrap=True, overflow="ellipsis") + head
        return head


async def watch(config: Config, view: View, interval_s: float) -> None:
    """Show the overview until somebody ends it. Raises what the first look raised, before anything is drawn."""
    screen = Screen(address_of(config.redis.url), view)
    console, unicode = open_screen()
    client = connect(config.redis.url)
    try:
        with anyio.fail_after(FIRST_TIMEOUT_S):
            screen.snapshot = await take(client, config)
    finally:
        await client.aclose()
    # Heard of from before the terminal is taken over until it is given back.
    with anyio.open_signal_receiver(*SIGNALS) as signals, taken_over(console) as terminal:
        async with anyio.create_task_group() as group:
            changed = Changed()
            group.start_soon(_look, config, screen, interval_s, changed)
            group.start_soon(_draw, console, unicode, screen, terminal, changed)
            group.start_soon(_listen, console, screen, terminal, changed)
            group.start_soon(_hear, signals, screen, terminal, changed)
            while not screen.is_over:
                await changed.over.wait()
            group.cancel_scope.cancel()


class Changed:
    """That there is something new to draw, or that it is over."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.over = anyio.Event()

    def tell(self, screen: Screen) -> None:
        """Have it drawn."""
        self.event.set()
        if screen.is_over:
            self.over.set()


async def _look(config: Config, screen: Screen, interval_s: float, changed: Changed) -> None:
    client: Any = None
    while True:
        await anyio.sleep(interval_s)
        if screen.view.is_paused:
            continue
        client = client or connect(config.redis.url)
        try:
            with anyio.fail_after(ANSWER_TIMEOUT_S):
                snapshot = await take(client, config)
            if not screen.view.is_paused:
                screen.snapshot, screen.away = snapshot, ""
        except UNANSWERED as error:
            screen.away = _reason(error)
            # A connection of before may be half open, or have replies of the last question on it.
            await client.aclose()
            client = None
        changed.tell(screen)


def _reason(error: Exception) -> str:
    return f"nothing within {ANSWER_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error) or repr(error)


async def _draw(console: Console, unicode: bool, screen: Screen, terminal: Terminal, changed: Changed) -> None:
    while True:
        changed.event = anyio.Event()
        width, height = console.size
        terminal.draw(screen.drawn(Frame(width, height, unicode)))
        with anyio.move_on_after(REDRAW_S):
            await changed.event.wait()


async def _listen(console: Console, screen: Screen, terminal: Terminal, changed: Changed) -> None:
    while names := await terminal.keys():
        for name in names:
            screen.press(name, max(1, console.size.height - 10))
        changed.tell(screen)


async def _hear(signals: AsyncIterator[signal.Signals], screen: Screen, terminal: Terminal, changed: Changed) -> None:
    async for number in signals:
        if number == signal.SIGTSTP:
            terminal.stop_process()
        elif number != signal.SIGWINCH:
            screen.is_over = True
        changed.tell(screen)


def open_screen() -> tuple[Console, bool]:
    """Return the console, as wide as the terminal or COLUMNS says, else 80; and whether it has more than ASCII."""
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False, force_terminal=sys.stdout.isatty())
    return console, (console.encoding or "").lower().startswith("utf")


def _after(current: str | None, names: list[str]) -> str | None:
    if current is None:
        return names[0] if names else None
    later = names[names.index(current) + 1 :] if current in names else []
    return later[0] if later else None


def _rows(snapshot: Snapshot | None, part: str) -> int:
    if snapshot is None or part == "all":
        return 1
    counts = {"running": len(snapshot.running), "workers": len(snapshot.workers), "types": len(snapshot.types)}
    return max(1, counts[part])
