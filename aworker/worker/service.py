"""What a service manager is told: that the worker is ready, alive, on its way out.

systemd names a datagram socket in ``NOTIFY_SOCKET`` and, for units with ``WatchdogSec``, how often it wants to hear in
``WATCHDOG_USEC`` (sd_notify(3), sd_watchdog_enabled(3)); without them nobody is told anything.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from loguru import logger


class ServiceManager:
    """The other end of ``NOTIFY_SOCKET``, if there is one; used from the loop and from the heartbeat's thread."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        asked_us, asked_pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        is_asked = asked_us.isascii() and asked_us.isdigit() and asked_pid in ("", str(os.getpid()))
        self._interval_s = int(asked_us) / 2e6 if is_asked and self._address else float("inf")
        """Half of the time after which the worker is taken for dead."""
        self._said_at = 0.0
        self._is_deaf = False

    def ready(self, status: str) -> None:
        """Say that the worker serves; ``status`` is a line for people."""
        self._say(f"READY=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """Say that the worker drains."""
        self._say(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """Say that the worker lives, if that is wanted and due."""
        now = time.monotonic()
        if now - self._said_at >= self._interval_s:
            self._said_at = now
            self._say("WATCHDOG=1")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is one of the abstract namespace.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as end:
                end.sendto(text.encode(), address)
        except OSError as error:
            if not self._is_deaf:
                self._is_deaf = True
                logger.warning(
                    f"NOTIFY_SOCKET must take messages, did not ({error}); the service manager hears nothing"
                )
