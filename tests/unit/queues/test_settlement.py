import json
from typing import Any

import msgspec
import pytest

from aworker.config import Config, DeadLettersConfig, ResultsConfig, WorkerConfig
from aworker.errors import PayloadInvalid
from aworker.lease import Lease
from aworker.outcome import Completed, Duplicate, Failed, Lost, Outcome, Rejected, Retried, Returned
from aworker.queues.lane.settlement import Settlement, settlement
from aworker.task import Task

CONFIG = Config()


def lease_of(payload: bytes = b'{"task_id":"t1","task_type":"backtest"}', *, delivery: int = 1) -> Lease:
    lease = Lease(7, payload, queue="strategy_queue", label="normal", level=1, delivery=delivery)
    lease.task = Task("t1", "backtest", {}, None, "normal")
    return lease


def settled(outcome: Outcome, *, config: Config = CONFIG, delivery: int = 1) -> Settlement:
    return settlement(config, "worker_h_1_ab", lease_of(delivery=delivery), outcome, 1.5)


def test_completed_has_the_result_and_the_workers_own_fields_win() -> None:
    plan = settled(Completed({"success": True, "worker_id": "forged", "score": float("nan")}))

    record = json.loads(plan.record)
    (message,) = map(json.loads, plan.messages)
    assert plan.kind == "end"
    assert record["status"] == message["status"] == "completed"
    assert record["data"] == message["result"]
    data = record["data"]
    assert (data["success"], data["worker_id"], data["score"]) == (True, "worker_h_1_ab", None)
    assert (data["execution_time_seconds"], data["queue_type"], data["priority"]) == (1.5, "normal", "normal")
    assert data["completed_at"].endswith("Z")
    assert set(record) == {"task_id", "status", "data", "updated_at", "worker_id"}
    assert set(message) == {"task_id", "status", "result", "updated_at", "worker_id"}


def test_failed_is_an_error_and_then_failed_with_the_same_result() -> None:
    plan = settled(Failed("ValueError: no", "ValueError", dead_letter="handler_raised", cause="trace"), delivery=2)

    error, failed = map(json.loads, plan.messages)
    assert plan.kind == "dead"
    assert (error["status"], failed["status"]) == ("error", "failed")
    assert error["result"] == failed["result"] == json.loads(plan.record)["data"]
    assert error["error_message"] == failed["error_message"] == "ValueError: no"
    assert error["result"]["error_type"] == "ValueError"
    assert error["result"]["attempts"] == 2
    fields = dict(zip(plan.dead_fields[::2], plan.dead_fields[1::2], strict=True))
    assert (fields["reason"], fields["cause"], fields["queue"]) == ("handler_raised", b"trace", "strategy_queue")


def test_a_declined_request_is_an_error_without_a_dead_letter() -> None:
    assert settled(Failed("no such strategy", "StrategyNotFound")).kind == "end"


def test_errors_are_not_kept_when_the_configuration_says_so() -> None:
    config = Config(dead_letters=DeadLettersConfig(keep_errors=False))

    assert settled(Failed("x", "X", dead_letter="handler_raised"), config=config).kind == "end"
    assert settled(Rejected("bad", "PayloadInvalid"), config=config).kind == "dead"
    assert settled(Returned("child died", counted=True), config=config, delivery=3).kind == "dead"


def test_a_rejected_payload_answers_its_caller_where_the_task_id_can_be_read() -> None:
    lease = lease_of(b'{"task_id":"t9","task_type":""}')
    lease.task = PayloadInvalid("task_type must ..")
    nameless = lease_of(b"[[[")
    nameless.task = PayloadInvalid("payload must ..")

    plan = settlement(CONFIG, "w", lease, Rejected("task_type must ..", "PayloadInvalid"), 0.0)
    silent = settlement(CONFIG, "w", nameless, Rejected("payload must ..", "PayloadInvalid"), 0.0)

    assert (plan.kind, plan.task_id, len(plan.messages)) == ("dead", "t9", 2)
    assert (silent.kind, silent.task_id, silent.messages) == ("dead", "", ())


def test_a_counted_return_is_queued_until_the_deliveries_are_used_up() -> None:
    config = Config(worker=WorkerConfig(max_deliveries=2))
    first = settled(Returned("killed by SIGKILL", counted=True), config=config)
    last = settled(Returned("killed by SIGKILL", counted=True), config=config, delivery=2)

    queued = json.loads(first.messages[0])
    assert (first.kind, first.counted, queued["status"]) == ("back", True, "queued")
    assert queued["result"]["retry_count"] == 1
    assert queued["result"]["retry_reason"] == "killed by SIGKILL"
    assert last.kind == "dead"
    assert "gave up after 2 deliveries: killed by SIGKILL" in json.loads(last.record)["data"]["error"]


def test_a_release_at_drain_is_not_counted() -> None:
    plan = settled(Returned("released: its worker drains", counted=False), delivery=9)

    assert (plan.kind, plan.counted) == ("back", False)


def test_a_retry_waits_in_the_delayed_set() -> None:
    plan = settled(Retried("try again", 2.5))

    assert (plan.kind, plan.delay_ms) == ("delay", 2500)
    assert json.loads(plan.record)["status"] == "queued"


def test_a_duplicate_is_settled_without_a_word() -> None:
    plan = settled(Duplicate("it is running now"))

    assert (plan.kind, plan.task_id, plan.record, plan.messages) == ("end", "", b"", ())


def test_a_lost_lease_is_no_outcome_to_write() -> None:
    with pytest.raises(TypeError, match="outcome must be one that can be written"):
        settled(Lost())


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, float, b"\xff" * 3000])
def test_a_result_that_cannot_be_written_is_an_error_with_that_reason(value: Any) -> None:
    config = Config(results=ResultsConfig(max_bytes=2048))

    plan = settled(Completed({"value": value}), config=config)

    data = json.loads(plan.record)["data"]
    assert plan.kind == "dead"
    assert data["error_type"] == "ResultInvalid"
    assert data["error"].startswith("result must be")


def test_results_can_be_stored_without_being_published() -> None:
    plan = settled(Completed({}), config=Config(results=ResultsConfig(publish=False)))

    assert plan.messages == ()
    assert msgspec.json.decode(plan.record)["status"] == "completed"
