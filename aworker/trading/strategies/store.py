"""Strategies and alert marks in Redis; every change is one atomic script, keyed by the task that asks for it.

Keys, under a prefix (``aworker:``):

    strategy:{id}             string   the latest version as JSON
    strategy:{id}:versions    hash     version -> JSON, the last MAX_VERSIONS of them
    strategies                zset     every id, by id; strategies:user:{user_id} those of one user
    strategy_ids              string   the last id given out
    strategy_task:{task_id}   string   "id:version" that the task made; expires after 30 days
    alert:{id}:{symbol}:{bar} string   the task that claimed the alert; expires after 30 days
    alerts                    stream   triggers, newest last; also the channel they are published on

Invariants: a task changes a strategy once, however often it is delivered; of two edits of one version one wins and
the other is told; a strategy, symbol and bar gives one trigger in the stream and on the channel.

Why one script a change: between any two commands of a sequence the process may die, and a task that is delivered
again must find either all of its effect or none. An id that was drawn and not used is only a gap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, ConnectionError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aworker.clock import rfc3339
from aworker.errors import QueueUnavailable, RequestDeclined
from aworker.trading.strategies.strategy import Draft, Strategy

MAX_VERSIONS = 100
MAX_ALERTS = 10_000
KEPT_S = 30 * 86_400

_ALERTS_A_PAGE = 1_000
_ANSWER_S = 5.0
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 1.0


class StrategyUnknown(RequestDeclined):
    """No strategy has that id."""


class StrategyNotOurs(RequestDeclined):
    """The strategy belongs to another user."""


class StrategyChanged(RequestDeclined):
    """Another edit of the same version came first."""


class StrategyLegacy(RequestDeclined):
    """The record is that of an older system (Python source, or nothing that can be read); it is never executed."""


class Trigger(msgspec.Struct, frozen=True):
    """One alert that fired: a strategy's entry condition held on the latest bar of a symbol."""

    strategy_id: int
    symbol: str
    bar_timestamp: int
    """Epoch seconds of the bar."""
    task_id: str
    alert: dict[str, Any]
    """What the alert task reports of it: symbol, score, current_price, sector, data."""
    triggered_at: str


# KEYS: strategy_ids. ARGV: the first id. Returns an id that was never returned before.
_NEXT_ID = """
local id = redis.call('INCR', KEYS[1])
local first = tonumber(ARGV[1])
if id < first then
  redis.call('SET', KEYS[1], ARGV[1])
  return first
end
return id
"""

# KEYS: strategy, versions, task, strategies, strategies of the user.
# ARGV: id, JSON of version 1, seconds that the task is remembered.
# Returns 'made'; 'done' when the task made one before; 'taken' when the id holds something: draw another.
_CREATE = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 'done' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'taken' end
redis.call('SET', KEYS[3], ARGV[1] .. ':1', 'EX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], '1', ARGV[2])
redis.call('ZADD', KEYS[4], ARGV[1], ARGV[1])
redis.call('ZADD', KEYS[5], ARGV[1], ARGV[1])
return 'made'
"""

# KEYS: strategy, versions, task. ARGV: id, new version, its JSON, the version that falls off, seconds.
# Returns 'made'; 'done' when the task made its edit before; 'gone' without a strategy; 'late' when the version exists.
_EDIT = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 'done' end
if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 'late' end
redis.call('SET', KEYS[3], ARGV[1] .. ':' .. ARGV[2], 'EX', ARGV[5])
redis.call('SET', KEYS[1], ARGV[3])
redis.call('HDEL', KEYS[2], ARGV[4])
return 'made'
"""

# KEYS: strategy, versions, strategies, strategies of the user. ARGV: id. Returns 1, or 0 when there was none.
_DELETE = """
local found = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return found
"""

# KEYS: mark, alerts. ARGV: task id, JSON of the trigger, seconds that the mark stands, most triggers kept.
# Returns 1 when the alert is this task's (now, or at an earlier delivery), 0 when another's.
_CLAIM = """
local holder = redis.call('GET', KEYS[1])
if holder then
  if holder == ARGV[1] then return 1 end
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'alert', ARGV[2])
redis.call('PUBLISH', KEYS[2], ARGV[2])
return 1
"""


class Store:
    """The strategies and alerts of one Redis.

    ``redis`` answers in bytes and does not retry by itself; every call here may be repeated safely, so a server that is
    away is waited for up to ``patience_s`` before QueueUnavailable is raised. ``first_id`` is the least id given out.
    """

    def __init__(
        self, redis: Redis, *, prefix: str = "aworker:", first_id: int = 1_000_000, patience_s: float = 10.0
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._first_id = first_id
        self._patience_s = patience_s

    async def create(
        self, draft: Draft, *, user_id: int, prompt: str, task_id: str, reading: dict[str, Any] | None = None
    ) -> Strategy:
        """Store a new strategy and return it, or the one that this task made at an earlier delivery."""
        made = await self.made_by(task_id)
        while made is None:
            strategy_id = int(await self._script(_NEXT_ID, [self._key("strategy_ids")], [self._first_id]))
            now = rfc3339()
            strategy = Strategy(
                strategy_id=strategy_id,
                user_id=user_id,
                name=draft.name,
                description=draft.description,
                prompt=prompt,
                rules=draft.rules,
                version=1,
                created_at=now,
                updated_at=now,
                task_id=task_id,
                reading=reading or {},
            )
            keys = [*self._strategy_keys(strategy_id), self._task_key(task_id), *self._index_keys(user_id)]
            if await self._script(_CREATE, keys, [strategy_id, msgspec.json.encode(strategy), KEPT_S]) == b"made":
                return strategy
            made = await self.made_by(task_id)
        return made

    async def edit(
        self,
        current: Strategy,
        draft: Draft,
        *,
        user_id: int,
        prompt: str,
        task_id: str,
        is_alert_active: bool | None = None,
        reading: dict[str, Any] | None = None,
    ) -> Strategy:
        """Store the next version of ``current`` and return it, or the one that this task made before.

        Raises StrategyNotOurs, StrategyUnknown when it was deleted meanwhile, and StrategyChanged when ``current`` is
        no longer the latest version.
        """
        check_owner(current, user_id)
        strategy = msgspec.structs.replace(
            current,
            name=draft.name,
            description=draft.description,
            prompt=prompt,
            rules=draft.rules,
            version=current.version + 1,
            updated_at=rfc3339(),
            task_id=task_id,
            is_alert_active=current.is_alert_active if is_alert_active is None else is_alert_active,
            reading=reading or {},
        )
        arguments: list[int | str | bytes] = [
            strategy.strategy_id,
            strategy.version,
            msgspec.json.encode(strategy),
            strategy.version - MAX_VERSIONS,
            KEPT_S,
        ]
        keys = [*self._strategy_keys(strategy.strategy_id), self._task_key(task_id)]
        answer = await self._script(_EDIT, keys, arguments)
        if answer == b"made":
            return strategy
        if answer == b"done":
            return await self.made_by(task_id) or strategy
        if answer == b"gone":
            raise _unknown(strategy.strategy_id)
        raise StrategyChanged(
            f"strategy {strategy.strategy_id} must be edited from its latest version, was version {current.version}; "
            "another edit came first, look at it and ask again"
        )

    async def made_by(self, task_id: str) -> Strategy | None:
        """Return the version that a task made, or None when it made none.

        Where that version has fallen off, the latest. Raises StrategyUnknown when the strategy was deleted since.
        """
        raw = await self._ask(lambda: self._redis.get(self._task_key(task_id)))
        if raw is None:
            return None
        strategy_id, version = map(int, raw.split(b":"))
        kept = await self._ask(lambda: self._redis.hget(self._strategy_keys(strategy_id)[1], str(version)))
        return await self.get(strategy_id) if kept is None else _decoded(strategy_id, kept)

    async def get(self, strategy_id: int) -> Strategy:
        """Return the latest version. Raises StrategyUnknown and StrategyLegacy."""
        try:
            raw = await self._ask(lambda: self._redis.get(self._strategy_keys(strategy_id)[0]))
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            # A hash or a list is no record of ours either.
            raise _legacy(strategy_id, b"") from None
        if raw is None:
            raise _unknown(strategy_id)
        return _decoded(strategy_id, raw)

    async def versions(self, strategy_id: int) -> list[Strategy]:
        """Return the versions that are kept, oldest first. Raises StrategyUnknown."""
        raws = await self._ask(lambda: self._redis.hvals(self._strategy_keys(strategy_id)[1]))
        if not raws:
            raise _unknown(strategy_id)
        return sorted((_decoded(strategy_id, raw) for raw in raws), key=lambda strategy: strategy.version)

    async def list_strategies(self, user_id: int | None = None, *, limit: int = 100) -> list[Strategy]:
        """Return the newest strategies, of one user or of all, highest id first."""
        key = self._index_keys(user_id)[1] if user_id is not None else self._key("strategies")
        ids = await self._ask(lambda: self._redis.zrevrange(key, 0, limit - 1))
        if not ids:
            return []
        keys = [self._strategy_keys(int(each))[0] for each in ids]
        raws = await self._ask(lambda: self._redis.mget(keys))
        return [_decoded(int(each), raw) for each, raw in zip(ids, raws, strict=True) if raw is not None]

    async def delete(self, strategy_id: int, *, user_id: int | None = None) -> None:
        """Delete a strategy with its versions; ``user_id`` None is the operator, who may delete any.

        Raises StrategyUnknown and StrategyNotOurs.
        """
        current = await self.get(strategy_id)
        if user_id is not None:
            check_owner(current, user_id)
        keys = [*self._strategy_keys(strategy_id), *self._index_keys(current.user_id)]
        await self._script(_DELETE, keys, [strategy_id])

    async def claim_alerts(
        self, strategy_id: int, task_id: str, alerts: Sequence[tuple[int, dict[str, Any]]]
    ) -> list[bool]:
        """Claim alerts, each a bar's epoch seconds and what is reported of it (with its ``symbol``), in one round trip.

        True for each that no other task has claimed: it is in the stream and was published, once however often this
        task is delivered.
        """
        if not alerts:
            return []
        now = rfc3339()
        triggers = [Trigger(strategy_id, alert["symbol"], bar, task_id, alert, now) for bar, alert in alerts]

        async def claim() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for trigger in triggers:
                    mark = self._key(f"alert:{strategy_id}:{trigger.symbol}:{trigger.bar_timestamp}")
                    encoded = msgspec.json.encode(trigger)
                    pipeline.eval(_CLAIM, 2, mark, self._key("alerts"), task_id, encoded, KEPT_S, MAX_ALERTS)
                return await pipeline.execute()

        return [answer == 1 for answer in await self._ask(claim)]

    async def claim_alert(
        self, strategy_id: int, symbol: str, bar_timestamp: int, task_id: str, alert: dict[str, Any] | None = None
    ) -> bool:
        """Claim the alert of one symbol and bar; True when it is this task's to report."""
        return (await self.claim_alerts(strategy_id, task_id, [(bar_timestamp, {**(alert or {}), "symbol": symbol})]))[
            0
        ]

    async def recent_alerts(self, limit: int = 100, *, strategy_id: int | None = None) -> list[Trigger]:
        """Return the latest triggers, of one strategy or of all, newest first."""
        found: list[Trigger] = []
        last = "+"
        while len(found) < limit:
            entries = await self._alerts_before(last, _ALERTS_A_PAGE if strategy_id is not None else limit)
            triggers = [msgspec.json.decode(fields[b"alert"], type=Trigger) for _, fields in entries]
            found += [trigger for trigger in triggers if strategy_id in (None, trigger.strategy_id)]
            if strategy_id is None or len(entries) < _ALERTS_A_PAGE:
                break
            last = f"({entries[-1][0].decode()}"
        return found[:limit]

    async def _alerts_before(self, last: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries: list[tuple[bytes, dict[bytes, bytes]]] = await self._ask(
            lambda: self._redis.xrevrange(self._key("alerts"), max=last, count=count)
        )
        return entries

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _strategy_keys(self, strategy_id: int) -> tuple[str, str]:
        key = self._key(f"strategy:{strategy_id}")
        return key, f"{key}:versions"

    def _index_keys(self, user_id: int) -> tuple[str, str]:
        return self._key("strategies"), self._key(f"strategies:user:{user_id}")

    def _task_key(self, task_id: str) -> str:
        return self._key(f"strategy_task:{task_id}")

    async def _script(self, script: str, keys: Sequence[str], arguments: Sequence[int | str | bytes]) -> Any:
        async def run() -> Any:
            return await self._redis.eval(script, len(keys), *keys, *arguments)

        return await self._ask(run)

    async def _ask(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        wait_s = _FIRST_WAIT_S
        give_up_at = anyio.current_time() + self._patience_s
        while True:
            try:
                # A half-open connection answers nothing and breaks nothing off.
                with anyio.fail_after(min(_ANSWER_S, self._patience_s)):
                    return await operation()
            except (BusyLoadingError, ReadOnlyError, ConnectionError, RedisTimeoutError, TimeoutError) as error:
                if anyio.current_time() + wait_s > give_up_at:
                    raise QueueUnavailable(
                        f"the strategy store must answer within {self._patience_s:g} s, did not; {error or 'no answer'}"
                    ) from error
                await anyio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def check_owner(strategy: Strategy, user_id: int) -> None:
    """Raise StrategyNotOurs unless the user may change the strategy.

    Its owner may; one of the public user (0) is everybody's.
    """
    if strategy.user_id not in (0, user_id):
        raise StrategyNotOurs(
            f"strategy {strategy.strategy_id} must be edited by its owner, was by user {user_id}; "
            "create one of your own from its source"
        )


def _unknown(strategy_id: int) -> StrategyUnknown:
    return StrategyUnknown(f"strategy_id must be that of a stored strategy, was {strategy_id}; create it first")


def _decoded(strategy_id: int, raw: bytes) -> Strategy:
    try:
        return msgspec.json.decode(raw, type=Strategy)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _legacy(strategy_id, raw) from None


def _legacy(strategy_id: int, raw: bytes) -> StrategyLegacy:
    is_source = any(mark in raw for mark in (b"pythonCode", b"python_code", b"def ", b"import "))
    what = "Python source of an older system" if is_source else "no record of this system"
    return StrategyLegacy(
        f"strategy {strategy_id} must be data (rules), was {what}; it is never executed, create it again from its "
        "prompt"
    )
