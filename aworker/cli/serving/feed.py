"""Feeding a file of tasks to the worker beside it, one after the other, and showing what comes out of each.

Invariant: one task's failure, whatever it is, is shown and ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from aworker.cli.screen.progress import ProgressLines
from aworker.cli.screen.show import plain, show_record
from aworker.cli.serving.waiting import run_task
from aworker.client.client import FINAL, Client
from aworker.config import Config
from aworker.errors import AworkerError, ConfigError

CREATED = "@create"
WAIT_S = 900.0
"""Longer than any built-in handler may run."""
_ARGS_SHOWN = 160


class FeedTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file. ``"@create"`` in args stands for the id of the last strategy that was made."""

    task_type: str
    args: dict[str, Any] = {}
    task_id: str | None = None
    priority: str | None = None


def read_feed(path: Path) -> list[FeedTask]:
    """Read a file of JSON lines, blank ones left out. Raises ConfigError with the number of the line that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--feed must be a readable file, was {str(path)!r} ({error}); check the path") from None
    tasks = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            tasks.append(msgspec.json.decode(line, type=FeedTask))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ConfigError(
                f"{path}: line {number} must be a task such as "
                f'{{"task_type": "backtest", "args": {{}}}}, was not ({error}); correct it'
            ) from None
    return tasks


class Feeder:
    """Pushes tasks, waits for each one's end and shows it."""

    def __init__(self, config: Config, tasks: list[FeedTask], console: Console, goodbye: Callable[[int | None], str]):
        self._config = config
        self._tasks = tasks
        self._console = console
        self._goodbye = goodbye
        self._created: int | None = None
        self.progress = ProgressLines(console)

    async def run(self) -> None:
        """Feed every task, then say what can be done next."""
        async with Client(config=self._config) as client:
            for number, task in enumerate(self._tasks, start=1):
                shown = plain(msgspec.json.encode(task.args).decode())
                shown = shown if len(shown) <= _ARGS_SHOWN else shown[: _ARGS_SHOWN - 3] + "..."
                self._console.print(
                    f"\n[{number}/{len(self._tasks)}] {plain(task.task_type)} {shown}",
                    style="bold yellow",
                    soft_wrap=True,
                )
                try:
                    await self._feed(client, task)
                except AworkerError as error:
                    self._console.print(f"Failed: {plain(error)}", style="red", soft_wrap=True)
        if words := self._goodbye(self._created):
            self._console.print(words, soft_wrap=True)

    async def _feed(self, client: Client, task: FeedTask) -> None:
        args = self._with_created(task.args)
        with self.progress.shown():
            task_id, record = await run_task(
                client,
                task.task_type,
                args,
                task_id=task.task_id,
                priority=task.priority,
                wait_s=WAIT_S,
                on_progress=self.progress.update,
            )
        if record is None or record.get("status") not in FINAL:
            self._console.print(f"No end within {WAIT_S:g} s; `aworker result {task_id}` shows it later", style="red")
            return
        show_record(self._console, record)
        data = record.get("data")
        strategy = data.get("strategy") if isinstance(data, dict) else None
        if record.get("status") == "completed" and isinstance(strategy, dict) and "strategyId" in strategy:
            self._created = strategy["strategyId"]

    def _with_created(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._with_created(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._with_created(item) for item in value]
        if value != CREATED:
            return value
        if self._created is None:
            raise AworkerError(f"{CREATED} must stand for a strategy, none was made so far; see what failed above")
        return self._created
