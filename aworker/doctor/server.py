"""Checks of the server itself."""

from __future__ import annotations

import re
import time

import anyio

from aworker.doctor.catalogue import Severity
from aworker.doctor.examination import Examination, Finding, Unknown, count, few, found, number_of, text_of, well

OLDEST_SERVER = (7, 0)
SAMPLES = 50
SAMPLE_GAP_S = 0.01
SLOW_S = 0.005
UNEVEN_S = 0.25
SLOW_COMMAND_S = 0.1
RECENT_S = 3_600.0
CLOCK_OFF_S = 2.0
WORKER_CLOCK_OFF_S = 5.0
"""A worker says when it looked at itself to the second, a renewal before it says so."""
SHORT, VERY_SHORT = 0.8, 0.95
BEHIND_S = 10
MIB = 1_048_576


async def version(exam: Examination) -> list[Finding]:
    info = await exam.info()
    told = info.get("valkey_version") or info.get("redis_version", "")
    name = "Valkey" if "valkey_version" in info else "Redis"
    if info.get("cluster_enabled") == "1" or info.get("redis_mode") == "cluster":
        return [
            found("cluster", f"The server is part of a cluster ({name} {told})", "point redis.url at a single server")
        ]
    numbers = tuple(int(part) for part in re.findall(r"\d+", info.get("redis_version", ""))[:2])
    if not numbers:
        raise Unknown("the server does not say its version")
    if numbers < OLDEST_SERVER:
        text = f"The server is {name} {told}, older than 7.0"
        return [found("old-server", text, 'upgrade it, or set worker.delivery = "at-most-once"')]
    return [well(f"{name} {told}")]


async def persistence(exam: Examination) -> list[Finding]:
    info = await exam.info()
    findings = []
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        command = f"{exam.redis_cli('CONFIG', 'GET', 'dir')}; df -h; {exam.redis_cli('BGSAVE')}"
        findings.append(found("save-failed", "The last snapshot could not be written", command))
    for field, words in (("aof_last_write_status", "written to"), ("aof_last_bgrewrite_status", "rewritten")):
        if info.get(field, "ok") != "ok":
            command = f"{exam.redis_cli('CONFIG', 'GET', 'dir')}; df -h; {exam.redis_cli('BGREWRITEAOF')}"
            findings.append(found("save-failed", f"The append-only file could not be {words}", command))
    append = f"{exam.redis_cli('CONFIG', 'SET', 'appendonly', 'yes')} && {exam.redis_cli('CONFIG', 'REWRITE')}"
    if info.get("aof_enabled") == "1":
        try:
            fsync = await exam.setting("appendfsync")
        except Unknown:
            fsync = "not known"
        if fsync == "no":
            mend = (
                f"{exam.redis_cli('CONFIG', 'SET', 'appendfsync', 'everysec')} && {exam.redis_cli('CONFIG', 'REWRITE')}"
            )
            findings.append(
                found("append-unsynced", "The append-only file is written when the host likes (appendfsync no)", mend)
            )
        return findings or [well(f"append-only file, appendfsync {fsync}")]
    if not (await exam.setting("save")).strip():
        return [*findings, found("no-persistence", "The server keeps nothing on disk", append)]
    age_s = max(0.0, exam.clock() - number_of(info, "rdb_last_save_time"))
    changes = number_of(info, "rdb_changes_since_last_save")
    text = f"Snapshots alone, the last {age_s / 60:.0f} min ago, {changes:,.0f} changes since"
    return [*findings, found("snapshots-only", text, append)]


async def eviction(exam: Examination) -> list[Finding]:
    info = await exam.info()
    policy, most = info.get("maxmemory_policy"), number_of(info, "maxmemory")
    if policy is None:
        raise Unknown("the server does not say its maxmemory-policy")
    if policy == "noeviction":
        return [well(f"maxmemory-policy {policy}" + ("" if most else ", no maxmemory"))]
    mend = (
        f"{exam.redis_cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')} && {exam.redis_cli('CONFIG', 'REWRITE')}"
    )
    name = "evicts-tasks" if policy.startswith("allkeys") else "evicts-results"
    if not most:
        text = f"The server will evict keys as soon as it has a maxmemory (maxmemory-policy {policy})"
        return [found(name, text, mend, "look")]
    return [found(name, f"The server evicts keys when it is full (maxmemory-policy {policy})", mend)]


async def memory(exam: Examination) -> list[Finding]:
    info = await exam.info()
    used, most = number_of(info, "used_memory"), number_of(info, "maxmemory")
    of = "maxmemory"
    if not most:
        most, of = number_of(info, "total_system_memory"), "its host's memory"
    if not used or not most:
        raise Unknown("the server does not say how much memory it uses")
    text = f"{used / MIB:,.0f} MiB of {most / MIB:,.0f} MiB ({used / most:.0%} of {of})"
    if used / most < SHORT:
        return [well(text)]
    severity: Severity = "trouble" if used / most >= VERY_SHORT else "look"
    mend = f"{exam.redis_cli('--bigkeys')} shows what is large; then raise maxmemory or drop dead letters"
    return [found("memory-short", f"The server uses {text}", mend, severity)]


async def latency(exam: Examination) -> list[Finding]:
    await exam.ask(("PING",))
    times = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        await exam.ask(("PING",))
        times.append(time.perf_counter() - began)
        await anyio.sleep(SAMPLE_GAP_S)
    times.sort()
    middle, worst = times[len(times) // 2], times[-1]
    findings = []
    if middle > SLOW_S:
        mend = f"{exam.redis_cli('--latency')} on the server's host tells the network from the server"
        findings.append(found("slow-server", f"A round trip takes {middle * 1000:.1f} ms", mend))
    if worst > max(UNEVEN_S, 10 * middle):
        mend = f"{exam.redis_cli('--latency-history')}; {exam.redis_cli('SLOWLOG', 'GET', '10')}"
        text = f"Of {SAMPLES} round trips one took {worst * 1000:.0f} ms, half of them at most {middle * 1000:.1f} ms"
        findings.append(found("uneven-server", text, mend))
    return findings or [well(f"{middle * 1000:.2f} ms, at most {worst * 1000:.1f} ms")]


async def slow_log(exam: Examination) -> list[Finding]:
    (entries,) = await exam.ask(("SLOWLOG", "GET", 128))
    oldest_at = exam.clock() - RECENT_S
    slow: dict[str, list[float]] = {}
    for _, at, microseconds, arguments, *_ in entries:
        if at >= oldest_at and microseconds >= SLOW_COMMAND_S * 1e6:
            slow.setdefault(text_of(arguments[0]).upper(), []).append(microseconds / 1e6)
    if not slow:
        return [well(f"no command of {SLOW_COMMAND_S * 1000:.0f} ms or more within the hour")]
    shown = few([f"{count(len(times), name)} of up to {max(times) * 1000:,.0f} ms" for name, times in slow.items()])
    mend = f"{exam.redis_cli('SLOWLOG', 'GET', '10')} shows them and who sent them"
    return [found("slow-commands", f"Slow within the last hour: {shown}", mend)]


async def clock(exam: Examination) -> list[Finding]:
    offsets = []
    for _ in range(5):
        began = exam.clock()
        (told,) = await exam.ask(("TIME",))
        ended = exam.clock()
        offsets.append((ended - began, (began + ended) / 2 - (int(told[0]) + int(told[1]) / 1e6)))
    trip_s, off_s = min(offsets)
    findings = []
    if abs(off_s) > CLOCK_OFF_S + trip_s:
        findings.append(
            found("clock-off", f"This host's clock is {_ahead(off_s)} the server's", "timedatectl set-ntp true")
        )
    for worker in (await exam.snapshot()).alive:
        if worker.said is None:
            continue
        # What it said of itself was that old when it said it.
        said_at = worker.said.at_s + worker.said.loop_lag_s
        off = said_at - ((await exam.snapshot()).now_s - worker.silent_s)
        if abs(off) > WORKER_CLOCK_OFF_S:
            what = f"The clock of worker {worker.worker_id} is {_ahead(off)} the server's"
            findings.append(found("clock-off", what, f"timedatectl set-ntp true (on {worker.said.host or 'its host'})"))
    return findings[:5] or [well(f"{abs(off_s) * 1000:.0f} ms apart")]


def _ahead(off_s: float) -> str:
    return f"{abs(off_s):,.1f} s {'ahead of' if off_s > 0 else 'behind'}"


async def replicas(exam: Examination) -> list[Finding]:
    info = await exam.info()
    role = info.get("role")
    if role is None:
        raise Unknown("the server does not say its role")
    if role != "master":
        where = f"{info.get('master_host', '?')}:{info.get('master_port', '?')}"
        text = f"The server is a replica of {where}, its link is {info.get('master_link_status', '?')}"
        return [found("is-replica", text, f"point redis.url at {where}, or {exam.redis_cli('REPLICAOF', 'NO', 'ONE')}")]
    findings, names = [], [name for name in info if re.fullmatch(r"slave\d+", name)]
    for name in names:
        fields = dict(part.split("=", 1) for part in info[name].split(",") if "=" in part)
        lag_s = number_of(fields, "lag")
        if fields.get("state") != "online" or lag_s > BEHIND_S:
            text = f"Replica {fields.get('ip')}:{fields.get('port')} is {fields.get('state')}, {lag_s:.0f} s behind"
            findings.append(found("replica-behind", text, exam.redis_cli("INFO", "replication")))
    return findings or [well(count(len(names), "replica") + (", none behind" if names else ""))]
