"""All items, in the order in which they are looked at and told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
from redis.exceptions import ResponseError

from aworker.config import Config
from aworker.doctor import access, places, queues, server, workers
from aworker.doctor.catalogue import EXIT_CODES
from aworker.doctor.examination import NAMELESS, Examination, Finding, Unknown
from aworker.queues.connection import Link

ITEM_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 10.0

Check = Callable[[Examination], Awaitable[list[Finding]]]

ITEMS: dict[str, Check] = {
    "version": server.version,
    "persistence": server.persistence,
    "eviction": server.eviction,
    "memory": server.memory,
    "latency": server.latency,
    "slow log": server.slow_log,
    "clocks": server.clock,
    "replicas": server.replicas,
    "access": access.access,
    "key types": places.types,
    "stray lists": places.strays,
    "results": places.results,
    "consumers": queues.consumed,
    "order": queues.order,
    "dead letters": queues.dead_letters,
    "stale workers": workers.stale,
    "leases": workers.leases,
    "alike": workers.alike,
    "loops": workers.loops,
}


async def examine(client: Any, config: Config) -> list[Finding]:
    """Look at every item, one after the other.

    Raises QueueUnavailable or TimeoutError when the server does not answer.
    """
    link = Link(config.redis.url, NAMELESS)
    exam = Examination(link, client, config)
    findings: list[Finding] = []
    try:
        for item, check in ITEMS.items():
            # A server that hangs would be waited for by each item in turn.
            with anyio.fail_after(ANSWER_TIMEOUT_S):
                await exam.replies(("PING",))
            findings += [msgspec.structs.replace(one, item=item) for one in await _looked_at(check, exam)]
    finally:
        await link.close()
    return findings


async def _looked_at(check: Check, exam: Examination) -> list[Finding]:
    try:
        with anyio.fail_after(ITEM_TIMEOUT_S):
            return await check(exam)
    except Unknown as unknown:
        return [Finding(severity="unknown", what=f"could not be looked at: {unknown}")]
    except ResponseError as error:
        return [Finding(severity="unknown", what=f"could not be looked at: the server refuses it ({error})")]
    except TimeoutError:
        return [Finding(severity="unknown", what=f"could not be looked at within {ITEM_TIMEOUT_S:g} s")]


def exit_code(findings: list[Finding]) -> int:
    """Return the exit code of the worst finding."""
    return max((EXIT_CODES[finding.severity] for finding in findings), default=0)
