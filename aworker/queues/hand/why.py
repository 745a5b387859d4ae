"""Where a task is, and what it waits for there.

What runs is read from the leases of all workers; slots, reservations and limits are those of the configuration at hand,
which is taken to be the workers' too. Everything is as it was a moment ago: nothing is held while it is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from aworker.clock import rfc3339
from aworker.config import Config, QueueConfig, every_ms
from aworker.errors import PayloadInvalid
from aworker.keys import ASSIGNMENT_PREFIX, RESULT_PREFIX, Keys
from aworker.queues.hand.cancel import FINAL
from aworker.queues.hand.dead_letters import DeadLetters
from aworker.queues.hand.ends import is_taken_from_left, questions
from aworker.queues.hand.find import Waiting, waiting
from aworker.queues.pauses import Pauses, find_pauses
from aworker.task import Task, decode_task

Place = Literal["waiting", "running", "delayed", "dead", "ended", "unknown"]
What = Literal[
    "paused", "no worker", "slots", "reserved", "type limit", "user limit", "total limit", "rate", "order", "delay"
]


class Reason(msgspec.Struct, frozen=True):
    """One thing that a task waits for."""

    what: What
    text: str
    worker_id: str = ""
    """The worker where it stands in the way; empty = everywhere."""


class Whereabouts(msgspec.Struct):
    """Where a task is; fields that do not belong to the place are None."""

    task_id: str
    place: Place
    task_type: str | None = None
    queue: str | None = None
    """Label of the level that it waits on, came from or goes back to."""
    before: int | None = None
    """Tasks of its level that are taken before it."""
    length: int | None = None
    """Tasks that wait on its level."""
    created_at: str | None = None
    worker_id: str | None = None
    since: str | None = None
    """When it was claimed, died or ended."""
    delivery: int | None = None
    due_at: str | None = None
    status: str | None = None
    error: str | None = None
    payload: str | None = None
    """Its bytes as text, where they are still there."""
    waits_for: list[Reason] = []


async def find_task(
    client: Any,
    config: Config,
    task_id: str,
    type_limits: Mapping[str, int],
    *,
    look_at_most: int | None = None,
) -> Whereabouts:
    """Look for a task in leases, lists, delayed tasks, dead letters and results, in this order.

    ``type_limits`` are the most tasks of a type that one worker runs; of the dead letters the newest ``look_at_most``
    are looked at.
    """
    for _ in range(3):
        if (running := await _running(client, config, task_id)) is not None:
            return running
        async for found in waiting(client, config, task_id):
            if found.kind == "delayed":
                return await _delayed(client, config, task_id, found)
            if (whereabouts := await _waiting(client, config, task_id, found, type_limits)) is not None:
                return whereabouts
    # An id that the register of leases does not hold has at least its assignment.
    if assignment := _object(await client.get(ASSIGNMENT_PREFIX + task_id)):
        worker_id, started_at = assignment.get("worker_id"), assignment.get("started_at")
        return Whereabouts(task_id, "running", worker_id=worker_id, since=started_at)
    record = _object(await client.get(RESULT_PREFIX + task_id))
    letter = await DeadLetters(client, config).get(task_id, look_at_most=look_at_most)
    if letter is not None and letter.task_id == task_id:
        return Whereabouts(
            task_id,
            "dead",
            task_type=letter.task_type or None,
            queue=config.label_of(letter.queue),
            worker_id=letter.worker_id,
            since=letter.died_at,
            delivery=letter.deliveries,
            status=letter.reason,
            error=letter.error,
            payload=_text(letter.payload),
        )
    if record.get("status") in FINAL:
        data = record["data"] if isinstance(record.get("data"), dict) else {}
        return Whereabouts(
            task_id,
            "ended",
            queue=data.get("queue_type"),
            worker_id=record.get("worker_id"),
            since=record.get("updated_at"),
            status=record["status"],
            error=data.get("error"),
        )
    return Whereabouts(task_id, "unknown", status=record.get("status"))


async def _running(client: Any, config: Config, task_id: str) -> Whereabouts | None:
    keys = Keys(config.redis.key_prefix)
    lease_id = await client.hget(keys.claimed, task_id)
    if lease_id is not None:
        workers = await client.zrange(keys.workers, 0, -1)
        pipeline = client.pipeline(transaction=False)
        for worker in workers:
            pipeline.hget(keys.leases(worker.decode()), lease_id)
        for worker, entry in zip(workers, await pipeline.execute(), strict=True):
            if entry is not None:
                delivery, claimed_at_ms, queue, payload = _lease(entry)
                task = _task(payload)
                return Whereabouts(
                    task_id,
                    "running",
                    task_type=task.task_type if task else None,
                    queue=config.label_of(queue),
                    created_at=task.created_at if task else None,
                    worker_id=worker.decode(),
                    since=rfc3339(claimed_at_ms / 1000),
                    delivery=delivery,
                    payload=_text(payload),
                )
    return None


async def _delayed(client: Any, config: Config, task_id: str, found: Waiting) -> Whereabouts:
    due_ms = await client.zscore(found.place, found.member)
    task = _task(found.payload)
    due_at = rfc3339(due_ms / 1000) if due_ms is not None else rfc3339()
    return Whereabouts(
        task_id,
        "delayed",
        task_type=task.task_type if task else None,
        queue=config.label_of(found.queue),
        created_at=task.created_at if task else None,
        due_at=due_at,
        payload=_text(found.payload),
        waits_for=[Reason("delay", f"its {'time' if found.is_new else 'next try'}, at {due_at}")],
    )


async def _waiting(
    client: Any, config: Config, task_id: str, found: Waiting, type_limits: Mapping[str, int]
) -> Whereabouts | None:
    keys = Keys(config.redis.key_prefix)
    position = next(index for index, queue in enumerate(config.queues) if queue.name == found.queue)
    level = config.queues[position]
    pipeline = client.pipeline(transaction=True)
    pipeline.execute_command("LPOS", found.queue, found.payload)
    for question in questions(keys, found.queue):
        pipeline.execute_command(*question)
    for queue in config.queues:
        pipeline.llen(queue.name)
    at_left, noted, left, right, *lengths = await pipeline.execute()
    if at_left is None:
        return None
    length = lengths[position]
    from_left = is_taken_from_left(config, level.name, noted, left, right)
    before = at_left if from_left else length - 1 - at_left
    task = _task(found.payload)
    pauses = await find_pauses(client, config)
    reasons = _pauses(pauses, level, task)
    if config.worker.delivery == "leased":
        reasons += await _workers(client, config, position, task, type_limits)
        reasons += await _over_all(client, config, task)
    if before or any(lengths[:position]):
        reasons.append(Reason("order", _order(config, lengths, position, before)))
    return Whereabouts(
        task_id,
        "waiting",
        task_type=task.task_type if task else None,
        queue=level.label,
        before=before,
        length=length,
        created_at=task.created_at if task else None,
        payload=_text(found.payload),
        waits_for=reasons,
    )


def _order(config: Config, lengths: list[int], position: int, before: int) -> str:
    words = [f"{before:,} before it on its own level"] if before else []
    words += [
        f"{length:,} on {queue.label}, which goes first"
        for queue, length in zip(config.queues[:position], lengths, strict=False)
        if length
    ]
    return f"its turn: {', '.join(words)}"


def _pauses(pauses: Pauses, level: QueueConfig, task: Task | None) -> list[Reason]:
    reasons = []
    if (since_s := pauses.queues.get(level.name)) is not None:
        reasons.append(Reason("paused", f"the {level.label} queue is paused since {rfc3339(since_s)}"))
    if task is not None and (since_s := pauses.task_types.get(task.task_type)) is not None:
        reasons.append(Reason("paused", f"{task.task_type} tasks are paused since {rfc3339(since_s)}"))
    return reasons


async def _workers(
    client: Any, config: Config, position: int, task: Task | None, type_limits: Mapping[str, int]
) -> list[Reason]:
    keys = Keys(config.redis.key_prefix)
    now, micros = await client.time()
    workers = [
        worker.decode() for worker in await client.zrangebyscore(keys.workers, (now + micros / 1e6) * 1000, "+inf")
    ]
    if not workers:
        return [Reason("no worker", "no worker is there")]
    reasons: list[Reason] = []
    for worker_id in workers:
        leases = [_lease(entry) for entry in await client.hvals(keys.leases(worker_id))]
        reasons += _in_the_way(config, worker_id, leases, position, task, type_limits)
    return reasons


async def _over_all(client: Any, config: Config, task: Task | None) -> list[Reason]:
    """Return the limits over all workers that hold a task back, read as the claim script reads them."""
    if task is None:
        return []
    keys, one, user = Keys(config.redis.key_prefix), config.task(task.task_type), task.user_id
    reasons: list[Reason] = []
    most, user_most = one.max_concurrent_total, one.max_concurrent_total_per_user
    if most or user_most:
        shares = await client.hgetall(keys.limit(f"running:{task.task_type}"))
        users = [
            share.decode("utf-8", "replace").partition(" ")[2]
            for lease_id, share in shares.items()
            if await client.hexists(keys.leases(share.partition(b" ")[0].decode()), lease_id)
        ]
        path = f"tasks.{task.task_type}"
        if most and len(users) >= most:
            text = f"another {task.task_type} to end on any worker: {len(users)} run ({path}.max_concurrent_total)"
            reasons.append(Reason("total limit", text))
        if user_most and user is not None and users.count(user) >= user_most:
            text = f"another {task.task_type} of user {user} to end on any worker: {users.count(user)} run"
            reasons.append(Reason("total limit", f"{text} ({path}.max_concurrent_total_per_user)"))
    seconds, micros = await client.time()
    now_ms = seconds * 1000 + micros / 1000
    for name, rate, owner in (("rate", one.rate, ""), ("rate_per_user", one.rate_per_user, user)):
        if rate and owner is not None:
            key = keys.limit(f"rate:{task.task_type}" + (f":{owner}" if owner else ""))
            wait_ms = float(await client.get(key) or 0) - now_ms - (one.burst - 1) * every_ms(rate)
            if wait_ms > 0:
                text = f"its rate, {rate} (tasks.{task.task_type}.{name}): the next starts in {wait_ms / 1000:.1f} s"
                reasons.append(Reason("rate", text))
    return reasons


def _in_the_way(
    config: Config,
    worker_id: str,
    leases: list[tuple[int, float, str, bytes]],
    position: int,
    task: Task | None,
    type_limits: Mapping[str, int],
) -> list[Reason]:
    slots = config.worker.slots
    reasons: list[Reason] = []
    if len(leases) >= slots:
        reasons.append(Reason("slots", f"a free slot: {len(leases)} of {slots} are taken", worker_id))
    levels = Counter(queue for _, _, queue, _ in leases)
    for above in range(position):
        reserved = config.reserved_slots[above]
        below = sum(levels[queue.name] for queue in config.queues[above + 1 :])
        if reserved and slots - reserved <= below < slots:
            label = config.queues[above].label
            text = f"a slot that is not reserved: {reserved} of {slots} are kept for {label}, the others are taken"
            reasons.append(Reason("reserved", text, worker_id))
    if task is None:
        return reasons
    running = [other for *_, payload in leases if (other := _task(payload)) is not None]
    of_type = sum(other.task_type == task.task_type for other in running)
    limit = type_limits.get(task.task_type, 0)
    if limit and of_type >= limit:
        text = f"another {task.task_type} to end: {of_type} run, the limit is {limit}"
        reasons.append(Reason("type limit", text, worker_id))
    most = config.worker.max_per_user
    of_user = sum(other.user_id == task.user_id for other in running)
    if most and task.user_id is not None and of_user >= most:
        text = f"another task of user {task.user_id} to end: {of_user} run, the limit is {most}"
        reasons.append(Reason("user limit", text, worker_id))
    return reasons


def _lease(entry: bytes) -> tuple[int, float, str, bytes]:
    # Delivery, claimed at (ms), list, payload: as the claim script writes it.
    head, _, payload = entry.partition(b"\n")
    delivery, _, claimed_at_ms, rest = head.decode("utf-8", "replace").split(" ", 3)
    return int(delivery), float(claimed_at_ms), rest.split('"')[1], payload


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "backslashreplace")


def _task(payload: bytes) -> Task | None:
    try:
        return decode_task(payload, len(payload))
    except PayloadInvalid:
        return None


def _object(text: bytes | None) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text) if text is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
