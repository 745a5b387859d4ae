"""The process pool: warm children, one socket pair each, one task at a time each."""

from aworker.execution.pool.frames import TaskInfo
from aworker.execution.pool.parent import LogRecord, LogSink, Pool, PoolSettings, PoolStats, RaisedInChild, open_pool

__all__ = ["LogRecord", "LogSink", "Pool", "PoolSettings", "PoolStats", "RaisedInChild", "TaskInfo", "open_pool"]
