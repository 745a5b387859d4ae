"""Every finding by name: how bad it is and why it matters. Each has a section in docs/operations.md."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["well", "unknown", "look", "trouble"]
"""In the order of how bad it is; unknown is what could not be looked at."""

EXIT_CODES: dict[Severity, int] = {"well": 0, "unknown": 0, "look": 10, "trouble": 20}


class Kind(msgspec.Struct, frozen=True):
    """What a finding of one name always says."""

    severity: Severity
    why: str


KINDS: dict[str, Kind] = {
    # The server.
    "old-server": Kind("trouble", "Leased delivery needs the scripts of Redis 7.0: a worker refuses to start."),
    "cluster": Kind(
        "trouble", "The lists' fixed names lie in different slots of a cluster: a worker refuses to start."
    ),
    "no-persistence": Kind("look", "When the server restarts, all that waits, runs or has died is gone."),
    "snapshots-only": Kind("look", "When the server restarts, all that was pushed since its last snapshot is gone."),
    "append-unsynced": Kind("look", "When the host crashes, half a minute of pushes or more is gone."),
    "save-failed": Kind("trouble", "What was acknowledged is not on disk, and the server may refuse every write."),
    "evicts-tasks": Kind("trouble", "When its memory is full, the server throws away whole queues and leases."),
    "evicts-results": Kind("look", "When its memory is full, results, heartbeats and marks vanish before their time."),
    "memory-short": Kind("look", "A server that is full refuses pushes: producers fail, workers go on."),
    "slow-server": Kind(
        "look", "Each claim and each settle is a round trip: an idle worker starts a task so much later."
    ),
    "uneven-server": Kind("look", "Whatever holds the server up holds up claims; at seconds, leases run out."),
    "slow-commands": Kind("look", "The server does one thing at a time: a slow command holds up every worker."),
    "clock-off": Kind("look", "Ages, expiry and aging compare created_at with the server's clock."),
    "is-replica": Kind("trouble", "A replica takes no writes: nothing can be claimed or pushed here."),
    "replica-behind": Kind("look", "When the replica takes over, what it has not seen is lost or runs again."),
    "may-not": Kind("trouble", "What the server's access list refuses, a worker cannot do: it waits, and says so."),
    # Keys.
    "wrong-type": Kind("trouble", "Whatever reads or writes that key is refused: tasks there cannot be claimed."),
    "stray-list": Kind("look", "No worker looks there: these tasks never start."),
    "results-crowd": Kind("look", "Results that nobody reads any more take the memory that tasks need."),
    "results-stay": Kind("look", "Results without an expiry stay for ever and fill the server."),
    # Queues.
    "nobody-consumes": Kind("trouble", "Tasks wait, and no worker serves their level."),
    "stands-still": Kind("look", "Tasks wait, workers serve the level, and none was taken for minutes."),
    "paused": Kind("look", "Tasks wait until somebody lets them go on."),
    "both-ends": Kind("look", "A list that is pushed on both sides is first-in first-out for nobody: the oldest wait."),
    "newest-first": Kind("look", "The newest task is taken first: under load the oldest never start."),
    "dead-letters-grow": Kind("look", "Tasks fail for good, and somebody has to look at them."),
    "dead-letters-full": Kind("look", "The oldest dead letters fall off, and with them the tasks' only copy."),
    # Workers.
    "silent-worker": Kind("look", "A worker went without a word: killed, crashed, or cut off."),
    "lost-leases": Kind("trouble", "These tasks belong to a worker that is gone, and nobody takes them over."),
    "versions-differ": Kind("look", "Who runs a task decides how: results differ from worker to worker."),
    "configurations-differ": Kind("look", "Who runs a task decides by which limits and levels it runs."),
    "loop-blocked": Kind(
        "trouble", "While a loop is blocked no task on that worker goes on, and none can be cancelled."
    ),
    "blocking-handlers": Kind("look", "While a handler computes in the loop, every other task of its worker waits."),
}
