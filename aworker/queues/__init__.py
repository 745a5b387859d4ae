"""Everything that speaks Redis."""

from aworker.queues.leased import LeasedQueue
from aworker.queues.plain import PlainQueue

Queue = LeasedQueue | PlainQueue
"""What a worker claims from and settles to."""
