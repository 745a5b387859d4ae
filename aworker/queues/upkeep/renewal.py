"""Renewing a worker's lease deadline, over a blocking connection of its own: what the heartbeat thread calls."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError

from aworker.config import LiveConfig
from aworker.errors import QueueUnavailable
from aworker.keys import HEARTBEAT_CHANNEL, HEARTBEAT_PREFIX, HEARTBEAT_TTL_S, Keys
from aworker.queues import scripts
from aworker.queues.connection import connect_synchronously, note_answer, note_error
from aworker.queues.presence import Minute, Presence, beat_command_parts

CONNECTION = "heartbeat"


class Renewal(msgspec.Struct, frozen=True):
    """What Redis answered to one renewal."""

    now_ms: float
    """The server's clock."""
    stood: bool
    """False: the deadline had passed and the worker was reaped."""
    held: int
    """Leases of this worker in Redis."""
    other_deadline_ms: float
    """The earliest deadline of another worker; -1 when there is none."""
    due_ms: float
    """When the first delayed task is due; -1 when there is none."""
    connects: int
    """Connections made so far: a change means that this worker was cut off."""
    heard_at: float
    """When the answer came, on this host's monotonic clock."""


Says = tuple[Presence, dict[str, Minute]]
"""What a worker does, and by level what it did since it last said so."""


class Renewer:
    """The connection of the heartbeat thread."""

    def __init__(self, live: LiveConfig, worker_id: str) -> None:
        config = live.value
        self._live = live
        self._worker_id = worker_id
        self._keys = Keys(config.redis.key_prefix)
        self._client: Any = connect_synchronously(
            config.redis.url, name=f"aworker-heartbeat-{worker_id}", timeout_s=1.5
        )
        self.refusal = ""
        """Why what this worker does could not be written the last time; empty when it was."""
        self.fullness = ""
        """Why the server takes nothing new, as it said the last time; empty when it takes it."""
        self._connects = 0
        self._is_cut = True

    def renew(self, heartbeat: bytes, says: Says | None = None) -> Renewal:
        """Renew the deadline; publish ``heartbeat`` unless it is empty, and say in the same round trip what this
        worker does. Raises QueueUnavailable.
        """
        worker_id, keys = self._worker_id, self._keys
        command = scripts.RENEW.command(
            [keys.workers, keys.leases(worker_id), keys.delayed, HEARTBEAT_PREFIX + worker_id],
            [
                worker_id,
                int(self._live.value.worker.lease_ttl_s * 1000),
                "",
                HEARTBEAT_CHANNEL,
                HEARTBEAT_TTL_S,
                heartbeat,
            ],
        )
        try:
            reply, probed, *said = self._sent([command, self._probe, *self._beats(says)])
            if isinstance(reply, RedisError):
                raise QueueUnavailable(str(reply))
        except QueueUnavailable:
            self._is_cut = True
            raise
        heard_at = time.monotonic()
        self._probed(probed)
        self._note(said)
        if self._is_cut:
            self._is_cut = False
            self._connects += 1
        return Renewal(
            now_ms=float(reply[0]),
            stood=bool(reply[1]),
            held=reply[2],
            other_deadline_ms=float(reply[3]),
            due_ms=float(reply[4]),
            connects=self._connects,
            heard_at=heard_at,
        )

    def send(self, command: tuple[Any, ...]) -> Any:
        """Send one script's command and return its reply. Raises QueueUnavailable."""
        try:
            try:
                return self._client.execute_command(*command)
            except NoScriptError:
                for script in scripts.ALL:
                    self._client.execute_command("SCRIPT", "LOAD", script.text)
                return self._client.execute_command(*command)
        except (RedisError, OSError) as error:
            note_error(CONNECTION, error)
            raise QueueUnavailable(str(error) or type(error).__name__) from None

    def beat(self, heartbeat: bytes, says: Says | None = None) -> None:
        """Publish a heartbeat without leases, by plain commands. Raises QueueUnavailable."""
        name = HEARTBEAT_PREFIX + self._worker_id
        commands: list[tuple[Any, ...]] = [
            ("SET", name, heartbeat, "EX", HEARTBEAT_TTL_S),
            ("PUBLISH", HEARTBEAT_CHANNEL, heartbeat),
        ]
        stored, published, *said = self._sent([*commands, *self._beats(says)])
        for reply in (self._probed(stored), published):
            if isinstance(reply, RedisError):
                raise QueueUnavailable(str(reply))
        self._note(said)

    def probe(self, says: Says | None = None) -> None:
        """Ask whether the server takes writes, without leaving any. Raises QueueUnavailable."""
        reply, *said = self._sent([self._probe, *self._beats(says)])
        if isinstance(self._probed(reply), RedisError):
            raise QueueUnavailable(str(reply))
        self._note(said)

    def present(self, says: Says) -> None:
        """Say what this worker does, and nothing else. Raises QueueUnavailable."""
        self._note(self._sent(self._beats(says)))

    @property
    def _probe(self) -> tuple[Any, ...]:
        # Refused by a full server as a push is, and where it is taken nothing is written.
        return "SET", self._keys.probe, "", "XX"

    def _probed(self, reply: Any) -> Any:
        self.fullness = str(reply) if isinstance(reply, OutOfMemoryError) else ""
        return None if self.fullness else reply

    def _beats(self, says: Says | None) -> list[tuple[Any, ...]]:
        return [] if says is None else [scripts.BEAT.command(*beat_command_parts(self._keys, *says))]

    def _note(self, said: list[Any]) -> None:
        for reply in said:
            self.refusal = str(reply) if isinstance(reply, RedisError) else ""

    def _sent(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        try:
            replies = self._together(commands)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                for script in scripts.ALL:
                    self._client.execute_command("SCRIPT", "LOAD", script.text)
                replies = self._together(commands)
            return replies
        except (RedisError, OSError) as error:
            note_error(CONNECTION, error)
            raise QueueUnavailable(str(error) or type(error).__name__) from None

    def _together(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        note_answer(CONNECTION, replies)
        return replies

    def lengths(self, names: list[str]) -> list[int]:
        """Return the lists' lengths; a key that is no list holds no task. Raises QueueUnavailable."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.llen(name)
                replies = pipeline.execute(raise_on_error=False)
            note_answer(CONNECTION, replies)
            for reply in replies:
                if isinstance(reply, RedisError) and not isinstance(reply, ResponseError):
                    raise reply
            return [0 if isinstance(reply, ResponseError) else int(reply) for reply in replies]
        except (RedisError, OSError) as error:
            note_error(CONNECTION, error)
            raise QueueUnavailable(str(error) or type(error).__name__) from None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
