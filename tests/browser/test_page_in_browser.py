"""The page in a real browser: what a person sees and does, with scripts and without, with a keyboard alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from aworker.clock import now_s
from aworker.queues.presence import RunningTask
from tests.browser.conftest import Open
from tests.kit.pages import TOKEN, bury, present, record
from tests.kit.queue_scripts import NORMAL, QueueScripts, task

LOOKS = (Path(__file__).parent / "looks.js").read_text(encoding="utf-8")
LONG = "backtest_42_" + "1719240000" * 12


@pytest.fixture
def filled(queue: QueueScripts) -> str:
    """Something of everything; returns a dead letter's entry."""
    present(
        queue,
        "worker_host_1_abc",
        limits={"backtest": 2},
        children={"busy": 1, "idle": 1, "spare": 1, "died": 1, "killed": 0},
    )
    present(queue, "worker_gone_2_abc", at_s=now_s() - 60)
    minute = int(now_s() // 60)
    for ago in range(1, 50):
        for label in ("normal", "priority"):
            queue.client.hset(queue.keys.minutes, f"{(minute - ago) % 60} {label}", f"{minute - ago} {ago} 9 {ago} 3")
    queue.client.hset(queue.keys.paused, "queue strategy_queue_priority", "1")
    queue.client.hset(queue.keys.paused, "type alert", "1")
    queue.client.rpush(NORMAL, *(task(f"wait-{index}") for index in range(60)), task(LONG))
    queue.client.zadd(queue.keys.delayed, {b'7 "strategy_queue"\n' + task("later"): (now_s() + 60) * 1000})
    curve = [[1_700_000_000 + day * 86_400, 1 + (day % 17) / 50] for day in range(200)]
    metrics = {"total_return": -0.02, "sharpe_ratio": 1.5, "equity_curve": curve}
    summary = {"total_instances": 3, "positive_instances": 2, "date_range": ["2023-11-14", "2024-05-31"]}
    data = {"execution_mode": "backtest", "strategy_id": 7, "performance_metrics": metrics, "summary": summary}
    record(queue, "curve", "completed", data)
    letters = [
        {"task_id": f"dead-{index}", "payload": task(f"dead-{index}"), "error": "no luck " * 40} for index in range(40)
    ]
    return bury(queue.client, *letters)[-1]


def log_in(page: Page) -> None:
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("You may act")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_everybody_can_use_every_page(filled: str, open_page: Open, scheme: str, width: int) -> None:
    page = open_page("/", scheme=scheme, width=width)
    address = page.url.rstrip("/")
    log_in(page)
    found = {}
    paths = ("/", "/running", "/delayed", "/dead", "/waiting?queue=normal", "/waiting?queue=normal&from=50", "/login")
    tasks = (f"/task?entry={filled}", "/task?id=curve", f"/task?id={LONG}", "/task?id=nobody", f"/do/drop?id={filled}")
    for path in (*paths, *tasks, "/do/pause-type?id=alert"):
        page.goto(address + path)
        for details in page.locator("details").all():
            details.evaluate("one => { one.open = true }")
        found[path] = page.evaluate(LOOKS)

    assert {path: findings for path, findings in found.items() if findings} == {}


def test_it_keeps_itself_up_to_date(filled: str, open_page: Open, queue: QueueScripts) -> None:
    page = open_page("/")
    expect(page.get_by_text("kept up to date")).to_be_visible()
    expect(page.locator("#part-levels")).to_contain_text("61 waiting")
    page.get_by_text("The same in numbers").click()
    page.get_by_role("link", name="normal").focus()

    queue.client.rpush(NORMAL, task("one-more"))
    queue.client.delete(queue.keys.paused)
    expect(page.locator("#part-verdict")).not_to_contain_text("paused")
    # What somebody is in is not taken from under them.
    assert page.evaluate("document.activeElement.textContent") == "normal"
    page.evaluate("document.activeElement.blur()")
    expect(page.locator("#part-levels")).to_contain_text("62 waiting")
    present(queue, "worker_host_1_abc")
    expect(page.locator("#hour-numbers tbody tr").first).to_contain_text("0")
    assert page.locator("#hour-numbers").get_attribute("open") is not None


def test_a_task_is_followed_to_its_end(queue: QueueScripts, open_page: Open) -> None:
    present(queue, "w1")
    queue.client.rpush(NORMAL, task("long"))
    queue.claim("w1", now_ms=int(now_s() * 1_000))
    page = open_page("/task?id=long")
    expect(page.get_by_role("status")).to_contain_text("Runs on w1")

    record(queue, "long", "completed", {"success": True, "completed_at": "2026-01-01T00:00:00Z"})
    queue.client.delete(queue.keys.claimed, queue.keys.leases("w1"))
    expect(page.get_by_role("status")).to_contain_text("Ended: completed")
    expect(page.get_by_text("completed, on w1")).to_be_visible()


def test_the_title_says_what_is_wrong(queue: QueueScripts, open_page: Open) -> None:
    present(queue, "w1")
    page = open_page("/")
    expect(page).to_have_title("All is well · aworker")

    queue.client.delete(queue.keys.beats)
    expect(page).to_have_title("Trouble · aworker")
    expect(page.get_by_role("status")).to_contain_text("No worker is there")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_dead_letter_is_dropped_after_a_question(
    filled: str, open_page: Open, queue: QueueScripts, scripts: bool
) -> None:
    page = open_page(f"/task?entry={filled}", scripts=scripts)
    expect(page.get_by_role("link", name="Drop")).to_have_count(0)
    log_in(page)
    page.get_by_label("Pages").get_by_role("link", name="Dead letters").click()
    page.get_by_role("row").nth(1).get_by_role("link").first.click()
    page.get_by_role("link", name="Drop").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Drop dead letter {filled} for good?")
    assert queue.client.xlen(queue.keys.dead) == 40

    page.get_by_role("button", name="Drop").click()
    expect(page.get_by_role("status")).to_have_text("It is deleted.")
    assert queue.client.xlen(queue.keys.dead) == 39
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


def test_without_scripts_all_of_it_is_there(filled: str, open_page: Open) -> None:
    page = open_page("/", scripts=False)
    expect(page.get_by_role("status")).to_contain_text("Worker worker_gone_2_abc has said nothing for")
    expect(page.get_by_role("img").first).to_be_visible()
    page.get_by_label("Task id").fill("wait-3")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".verdict")).to_contain_text("Waits on the normal queue")
    page.goto(page.url.split("/task")[0] + "/waiting?queue=normal")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("26 to 50 of 61")).to_be_visible()
    page.get_by_role("link", name="Before").click()
    expect(page.get_by_text("1 to 25 of 61")).to_be_visible()


def test_a_keyboard_is_enough(filled: str, open_page: Open) -> None:
    page = open_page("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_hostile_words_run_nowhere(queue: QueueScripts, open_page: Open) -> None:
    odd = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>\" onfocus=\"alert(1)"
    present(queue, "w1", host=odd, running=[RunningTask(odd, odd, odd, 1, now_s())])
    queue.client.rpush(NORMAL, task(odd, task_type=odd))
    (entry,) = bury(queue.client, {"error": odd, "task_id": odd, "reason": odd, "payload": odd})
    page = open_page("/")
    address = page.url.rstrip("/")
    expect(page.get_by_text("kept up to date")).to_be_visible()
    for path in ("/", "/dead", "/running", "/waiting?queue=normal", f"/task?entry={entry}", f"/task?id={quote(odd)}"):
        page.goto(address + path)
        assert page.locator("img, main script").count() == 0
        assert page.title().endswith("aworker")
