"""Which list a producer pushes a task onto."""

from __future__ import annotations

from aworker.config import Config, QueueConfig


def route(config: Config, task_type: str, priority: str) -> QueueConfig:
    """Return the list for a task: what a person waits for and what is marked high goes first."""
    if task_type == "create_strategy" or priority == "high":
        return _labelled(config, "priority", 0)
    return _labelled(config, "normal", -1)


def _labelled(config: Config, label: str, otherwise: int) -> QueueConfig:
    for queue in config.queues:
        if queue.label == label:
            return queue
    return config.queues[otherwise]
