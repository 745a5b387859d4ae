"""One task: where it is, why it waits, its payload, its record, its history; a backtest with its curve."""

from __future__ import annotations

from typing import Any

import msgspec

from aworker.clock import parse_rfc3339
from aworker.config import Config
from aworker.keys import RESULT_PREFIX
from aworker.queues.hand.dead_letters import DeadLetter, DeadLetters
from aworker.queues.hand.why import Whereabouts, find_task
from aworker.web.site.charts import Curve, curve
from aworker.web.site.rendering import Text, duration, laid_out

DEAD_LOOKED_AT_MOST = 20_000
RECORD_MOST_BYTES = 8_388_608
_FIGURES = (
    ("total_return", "Return", True),
    ("annual_return", "Return a year", True),
    ("held_return", "Holding instead", True),
    ("max_drawdown", "Largest drawdown", True),
    ("sharpe_ratio", "Sharpe", False),
    ("sortino_ratio", "Sortino", False),
    ("win_rate", "Won", True),
    ("profit_factor", "Profit factor", False),
)


class Backtest(msgspec.Struct):
    """What a backtest's result says."""

    strategy_id: Any
    curve: Curve | None
    figures: list[tuple[str, str]]
    trades: int | None
    won: int | None
    first: str
    last: str


class TaskView(msgspec.Struct):
    """All that the page of a task shows."""

    found: Whereabouts
    payload: Text | None
    record: Text | None
    history: list[tuple[str, str]]
    """When and what, in order."""
    letter: DeadLetter | None
    backtest: Backtest | None


async def view_task(client: Any, config: Config, task_id: str, limits: dict[str, int]) -> TaskView:
    """Look for a task everywhere."""
    found = await find_task(client, config, task_id, limits, look_at_most=DEAD_LOOKED_AT_MOST)
    name = RESULT_PREFIX + task_id
    size = await client.strlen(name) if await client.type(name) == b"string" else 0
    raw = await client.getrange(name, 0, RECORD_MOST_BYTES - 1) if size else b""
    record = _object(raw)
    letter = None
    if found.place == "dead":
        letter = await DeadLetters(client, config).get(task_id, look_at_most=DEAD_LOOKED_AT_MOST)
    return TaskView(
        found,
        None if found.payload is None else laid_out(found.payload),
        laid_out(raw, size) if raw else None,
        _history(found, record),
        letter,
        _backtest(record.get("data")),
    )


def view_letter(letter: DeadLetter, config: Config) -> TaskView:
    """Show one dead letter by its own id: not each has a task's."""
    found = Whereabouts(
        letter.task_id,
        "dead",
        task_type=letter.task_type or None,
        queue=config.label_of(letter.queue),
        worker_id=letter.worker_id,
        since=letter.died_at,
        delivery=letter.deliveries,
        status=letter.reason,
        error=letter.error,
    )
    return TaskView(found, laid_out(letter.payload), None, _history(found, {}), letter, None)


def _history(found: Whereabouts, record: dict[str, Any]) -> list[tuple[str, str]]:
    data = record["data"] if isinstance(record.get("data"), dict) else {}
    lines = [
        (found.created_at, "made by its producer"),
        (data.get("started_at"), f"started on {record.get('worker_id')}"),
        (data.get("requeued_at"), f"put back: {data.get('retry_reason')}"),
        (data.get("completed_at"), _end(record, data)),
    ]
    if found.place == "running":
        lines.append((found.since, f"claimed by {found.worker_id}, delivery {found.delivery}"))
    elif found.place == "dead":
        lines.append((found.since, f"dead letter after delivery {found.delivery}: {found.status}"))
    elif found.place == "delayed":
        lines.append((found.due_at, "is due"))
    known = [(at, what) for at, what in lines if isinstance(at, str) and parse_rfc3339(at) is not None]
    return sorted(known, key=lambda line: parse_rfc3339(line[0]) or 0.0)


def _end(record: dict[str, Any], data: dict[str, Any]) -> str:
    ran_s = data.get("execution_time_seconds")
    after = f" after {duration(ran_s)}" if isinstance(ran_s, float) else ""
    return f"{record.get('status')}{after}, on {record.get('worker_id') or 'no worker'}"


def _backtest(data: Any) -> Backtest | None:
    if not isinstance(data, dict) or data.get("execution_mode") != "backtest":
        return None
    metrics, summary = (
        data[name] if isinstance(data.get(name), dict) else {} for name in ("performance_metrics", "summary")
    )
    held = metrics.get("buy_and_hold")
    metrics = {**metrics, "held_return": held.get("total_return") if isinstance(held, dict) else None}
    drawn = curve(metrics.get("equity_curve"))
    dates = summary.get("date_range")
    first, last = dates if isinstance(dates, list) and len(dates) == 2 else ("", "")
    return Backtest(
        data.get("strategy_id"),
        drawn,
        [
            (label, _figure(metrics[name], is_share))
            for name, label, is_share in _FIGURES
            if _is_number(metrics.get(name))
        ],
        _whole(summary.get("total_instances")),
        _whole(summary.get("positive_instances")),
        str(first)[:10],
        str(last)[:10],
    )


def _figure(value: float, is_share: bool) -> str:
    return f"{value * 100:,.1f} %" if is_share else f"{value:,.2f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text) if text else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
