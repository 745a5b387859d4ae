"""Strategy work goes first: as a test, and as a script of its own (``python tests/test_priority_queue.py``).

It adds normal tasks to the regular list, then one create_strategy to the priority list, runs a real worker with one
slot on a private server, and shows and checks the order in which it processed them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.kit.servers import Server

PROCESSING = re.compile(r"Processing (\S+) task (\S+) from (\S+) queue")
PROMPT = "buy when RSI(14) drops below 30, sell above 70, 5% stop loss, only AAPL and MSFT"


def push(server: Server, queue: str, task_type: str, task_id: str, args: dict[str, object]) -> None:
    task = {
        "task_id": task_id,
        "task_type": task_type,
        "args": args,
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "priority": "high" if task_type == "create_strategy" else "normal",
    }
    with server.client() as client:
        client.rpush(queue, json.dumps(task))


def run_worker(server: Server) -> str:
    """Run a worker with one slot until the lists are empty; its log."""
    command = [sys.executable, "-m", "aworker", "run", "--redis-url", server.url, "--slots", "1", "--burst"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr


def result_of(server: Server, task_id: str) -> dict[str, object]:
    with server.client() as client:
        text = client.get(f"task_result:{task_id}")
    assert isinstance(text, bytes), f"{task_id} has no result"
    record: dict[str, object] = json.loads(text)
    return record


def processed_order(server: Server) -> list[tuple[str, str, str]]:
    """Push normal tasks, then a create_strategy; the (task_type, task_id, queue) in the order they were processed."""
    push(server, "strategy_queue_priority", "create_strategy", "create_first", {"user_id": 1, "prompt": PROMPT})
    run_worker(server)
    data = result_of(server, "create_first")["data"]
    assert isinstance(data, dict), data
    strategy_id = data["strategy"]["strategyId"]

    for number in range(1, 4):
        push(server, "strategy_queue", "backtest", f"backtest_{number}", {"user_id": 1, "strategy_id": strategy_id})
    push(server, "strategy_queue", "screening", "screening_1", {"user_id": 1, "strategy_ids": [strategy_id]})
    push(server, "strategy_queue", "alert", "alert_1", {"user_id": 1, "strategy_id": strategy_id})
    push(server, "strategy_queue_priority", "create_strategy", "create_second", {"user_id": 1, "prompt": PROMPT})
    return PROCESSING.findall(run_worker(server))


def test_create_strategy_is_processed_before_normal_tasks_that_came_first(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        order = processed_order(server)

        assert order[0] == ("create_strategy", "create_second", "priority")
        assert [task_id for _, task_id, _ in order[1:]] == [
            "backtest_1",
            "backtest_2",
            "backtest_3",
            "screening_1",
            "alert_1",
        ]
        for _, task_id, _ in order:
            assert result_of(server, task_id)["status"] == "completed"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="aworker-priority-") as folder, Server(Path(folder)) as server:
        print("Pushed 5 normal tasks, then 1 create_strategy; one slot processed them in this order:")
        order = processed_order(server)
        for position, (task_type, task_id, queue) in enumerate(order, 1):
            status = result_of(server, task_id)["status"]
            print(f"  {position}. {task_type:<16} {task_id:<14} from {queue} queue: {status}")
    first = order[0][0] if order else "nothing"
    print("PASSED: create_strategy went first" if first == "create_strategy" else f"FAILED: {first} went first")
    return 0 if first == "create_strategy" and len(order) == 6 else 1


if __name__ == "__main__":
    sys.exit(main())
