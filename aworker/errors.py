"""The error tree, split by what the caller does about it.

    AworkerError
      ConfigError          fix the file (exit code 2)
      QueueUnavailable     wait and try again
      TaskFailed           a result that was waited for: the task ended as an error
      TaskUnfinished       a result that was waited for: the task has not ended in time
      LeaseLost            drop the outcome: another worker owns the task
      TaskInvalid          dead letter
        PayloadInvalid       bytes, JSON, task_id, size
        UnknownTaskType      no handler of that name
        ArgumentsInvalid     args do not fit the handler's type
      PermanentFailure     no other try would help: an error result and a dead letter at once
        EnqueueInvalid       what it enqueued is no task that a worker would take
      RequestDeclined      what was asked for cannot be had: an error result, no dead letter
      LifespanFailed       what handlers need could not be opened: no task was taken (exit 1)
      ExecutionFailed      by policy: retry, dead letter
        HandlerRaised        the handler's own exception
        ResultInvalid        what it returned is nothing that JSON can say, or too large
        HandlerTimedOut      the handler ran over its timeout
        TaskCancelled        a person or a drain stopped it
        ChildDied            the child process that ran it is gone
          ChildOutOfMemory     the pool ended it over its memory limit

A message reads ``<path> must be <rule>, was <value>; <what to do>``.
"""


class AworkerError(Exception):
    """Base of everything that aworker raises on purpose."""


class ConfigError(AworkerError):
    """A configuration value breaks its rule."""


class QueueUnavailable(AworkerError):
    """Redis cannot be reached or cannot serve now."""


class TaskFailed(AworkerError):
    """The task whose result was asked for ended as an error; the message is its text."""

    def __init__(self, message: str, *, task_id: str = "", error_type: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id
        self.error_type = error_type
        """The class of what the handler raised, or one of aworker's own: ``HandlerTimedOut``, ``TaskCancelled``, .."""


class TaskUnfinished(AworkerError, TimeoutError):
    """The task whose result was asked for has not ended in the time that was given."""


class LeaseLost(AworkerError):
    """The lease is gone: another worker owns the task, so its outcome must be dropped."""


class TaskInvalid(AworkerError):
    """A payload that cannot become a running task; it belongs in the dead letters."""


class PayloadInvalid(TaskInvalid):
    """The payload is no task: bytes, JSON, fields or size."""


class UnknownTaskType(TaskInvalid):
    """No handler is registered for the task's type."""


class ArgumentsInvalid(TaskInvalid):
    """The task's args do not fit the handler's argument type."""


class RequestDeclined(AworkerError):
    """What the task asks for cannot be had; the caller is told why and nothing is kept.

    Subclass it to give the result its own ``error_type`` (the class name).
    """


class PermanentFailure(AworkerError):
    """The task failed in a way that no other try would mend: it is not run again, whatever its retries say.

    Raise it, or a class derived from it, in a handler.
    """


class EnqueueInvalid(PermanentFailure):
    """What a handler wants to enqueue is no task that a worker would take."""


class LifespanFailed(AworkerError):
    """A lifespan raised before its yield, or a handler needs what none yields."""


class ExecutionFailed(AworkerError):
    """A task ran and did not give a result."""


class HandlerRaised(ExecutionFailed):
    """The handler raised; the message carries the exception's own type and text."""


class ResultInvalid(ExecutionFailed):
    """What the handler returned is nothing that JSON can say, or larger than a result may be."""


class HandlerTimedOut(ExecutionFailed):
    """The handler ran longer than its timeout."""


class TaskCancelled(ExecutionFailed):
    """The task was stopped on request."""


class ChildDied(ExecutionFailed):
    """The child process that ran the task ended; the message says by which signal or exit code."""


class ChildOutOfMemory(ChildDied):
    """The child was ended because it grew over its memory limit."""
