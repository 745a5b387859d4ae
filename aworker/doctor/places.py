"""Checks of keys: of what type they are, lists that nobody looks at, and what results take."""

from __future__ import annotations

import re
import shlex
from difflib import get_close_matches

import msgspec
from redis.exceptions import ResponseError

from aworker.doctor.examination import Examination, Finding, Unknown, count, found, number_of, text_of, well
from aworker.keys import RESULT_PREFIX
from aworker.queues.hand.look import look_command
from aworker.task import salvage_identity

CLOSE = 0.8
SAMPLES = 200
SAMPLED_LEAST = 20
CROWDED = 0.5
MIB = 1_048_576


async def types(exam: Examination) -> list[Finding]:
    keys = exam.keys
    wanted = {
        **{level.name: "list" for level in exam.config.queues},
        **dict.fromkeys((keys.workers, keys.cancelled, keys.delayed, keys.beats), "zset"),
        **dict.fromkeys((keys.deliveries, keys.ends, keys.claimed, keys.paused, keys.minutes), "hash"),
        **dict.fromkeys((keys.lease_id, keys.dead_bytes), "string"),
        keys.dead: "stream",
    }
    kinds = await exam.ask(*[("TYPE", name) for name in wanted])
    findings = []
    for (name, kind), reply in zip(wanted.items(), kinds, strict=True):
        told = text_of(reply)
        if told not in (kind, "none"):
            mend = exam.redis_cli("RENAME", name, f"{name}:put-aside")
            findings.append(found("wrong-type", f"{name} is a {told}, must be a {kind}", mend))
    return findings or [well(f"{len(wanted)} keys are of their type")]


async def strays(exam: Examination) -> list[Finding]:
    names, how_far = await exam.scan("*", "list")
    configured = [level.name for level in exam.config.queues]
    others = sorted(name for name in names if text_of(name) not in configured)
    lengths = await exam.replies(*[("LLEN", name) for name in others])
    looks = await exam.replies(*[look_command(text_of(name), "list", 0, 1, 65_536) for name in others])
    findings = []
    for name, length, look in zip(others, lengths, looks, strict=True):
        stray = text_of(name)
        close = _closest(stray, configured)
        if not isinstance(length, int) or not length or not (close or _is_task(look)):
            continue
        place = close or configured[-1]
        move = exam.redis_cli("LMOVE", stray, place, "LEFT", "RIGHT")
        mend = f'let producers push to {shlex.quote(place)}; then: while [ -n "$({move})" ]; do :; done'
        near = f", which is close to {close}" if close else ""
        findings.append(
            found("stray-list", f"{count(length, 'payload')} on the list {stray}{near}; no level is of that name", mend)
        )
    return findings[:20] or [well(f"{count(len(others), 'list')} beside the levels, none with tasks{how_far}")]


def _closest(name: str, configured: list[str]) -> str | None:
    same = [one for one in configured if _bare(one) == _bare(name)]
    return next(iter(same or get_close_matches(name, configured, 1, CLOSE)), None)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_task(look: object) -> bool:
    if isinstance(look, ResponseError) or not isinstance(look, list) or len(look) < 4:
        return False
    task_id, task_type, _ = salvage_identity(look[3])
    if not task_id or not task_type:
        return False
    try:
        task = msgspec.json.decode(look[3])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return True  # cut, and what could be read is a task's
    return isinstance(task, dict) and ("args" in task or "created_at" in task)


async def results(exam: Examination) -> list[Finding]:
    (size,) = await exam.ask(("DBSIZE",))
    if not size:
        return [well("no results")]
    names = await exam.ask(*[("RANDOMKEY",)] * SAMPLES)
    records = [name for name in names if name is not None and name.startswith(RESULT_PREFIX.encode())]
    looks = await exam.ask(*[(word, name) for name in records for word in ("STRLEN", "TTL")])
    lengths, lives = looks[::2], looks[1::2]
    about = round(size * len(records) / SAMPLES)
    findings = []
    stay = sum(left == -1 for left in lives)
    if stay:
        in_all = size * stay // SAMPLES + 1
        what = f"Of {count(len(records), 'result')} looked at {stay:,} have no expiry: about {in_all:,} in all"
        scan = exam.redis_cli("--scan", "--pattern", f"{RESULT_PREFIX}*")
        mend = f"{scan} | xargs -r -n1 -I% {exam.redis_cli('EXPIRE', '%', str(exam.config.results.ttl_s), 'NX')}"
        findings.append(found("results-stay", what, mend))
    if len(records) < SAMPLED_LEAST:
        return findings or [well("few results")]
    bytes_each = sum(lengths) / len(lengths)
    try:
        info = await exam.info()
    except Unknown:
        return findings or [
            well(f"about {about:,} results of {bytes_each:,.0f} bytes; INFO is refused, so not known of how much")
        ]
    most = number_of(info, "maxmemory") or number_of(info, "total_system_memory")
    used = number_of(info, "used_memory")
    share = about * bytes_each / most if most else 0.0
    text = f"About {about:,} results of {bytes_each:,.0f} bytes are {about * bytes_each / MIB:,.0f} MiB"
    if share > CROWDED or (most and used / most > 0.9 and about * bytes_each > used / 4):
        mend = (
            f"set [results] ttl_s below {exam.config.results.ttl_s} and max_bytes below {exam.config.results.max_bytes}"
        )
        findings.append(found("results-crowd", f"{text} of {most / MIB:,.0f} MiB", mend))
    return findings or [well(text[0].lower() + text[1:])]
