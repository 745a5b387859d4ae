"""What a handler returns when it wants to be run again later."""

import msgspec


class Retry(msgspec.Struct, frozen=True):
    """Run this task again after ``delay_s``; None = the worker's exponential backoff."""

    delay_s: float | None = None
    reason: str = "the handler asked for it"
