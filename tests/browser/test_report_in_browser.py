"""A report opened from the disk in a real browser: light and dark, wide and narrow, with scripts and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from aworker.trading.backtest.backtest import run_backtest
from aworker.trading.backtest.sweep import run_sweep
from aworker.trading.report.report import make_report
from aworker.trading.report.sweep import make_sweep_report
from tests.browser.test_page_in_browser import LOOKS
from tests.kit.market import START_S, context, random_bars, store_of

HOSTILE = "</h1></title><script>document.title = 'taken'</script><img src=//evil.example/x onerror=alert(1)>"

Show = Callable[..., Page]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = store_of(folder / "bars", *(random_bars(seed, 700, f"SYMBOL-{seed}") for seed in range(1, 9)))
    asked = {
        "rules": {"entry": "close > sma(close, 9)", "exit": "close < sma(close, 9)", "risk": {"stop_loss": 0.02}},
        "now_s": START_S + 700 * 86_400,
        "start_s": START_S,
        "market_data_path": path,
        "whole_curve": True,
    }
    costly = run_backtest({**asked, "commission": 0.001}, context())
    costly["summary"]["warnings"] = [HOSTILE, "A year is counted with 365 bars"]
    report = {
        "result": costly,
        "title": f"Nine days {HOSTILE}",
        "benchmark": "SYMBOL-3",
        "without_costs": run_backtest(asked, context())["performance_metrics"],
        "market_data_path": path,
    }
    made = folder / "report.html"
    made.write_text(make_report(report, context()), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def swept(file: Path) -> Path:
    asked = {
        "text": "entry: close > sma(close, {n})\nexit: close < sma(close, {m})\n",
        "parameters": {"n": [str(n) for n in range(5, 25)], "m": [str(m) for m in range(5, 60, 5)]},
        "now_s": START_S + 700 * 86_400,
        "start_s": START_S,
        "market_data_path": str(file.parent / "bars"),
        "symbols": ["SYMBOL-1", "SYMBOL-2"],
        "folds": 5,
    }
    result = run_sweep(asked, context())
    result["summary"]["warnings"].append(HOSTILE)
    made = file.parent / "sweep.html"
    made.write_text(make_sweep_report(result, f"Days {HOSTILE}", context()), encoding="utf-8")
    return made


@pytest.fixture
def show(browser: Browser, file: Path, swept: Path) -> Iterator[Show]:
    """Open the report; what it complains of, asks a host for or pops up fails the test."""
    complaints: list[str] = []
    contexts = []

    def opened(*, of: Path = file, scheme: str = "light", width: int = 1280, scripts: bool = True) -> Page:
        made = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": 900},
            java_script_enabled=scripts,
        )
        contexts.append(made)
        page = made.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda asked: note(asked.url))
        page.goto(of.as_uri())
        return page

    def note(url: str) -> None:
        if not url.startswith(("file:", "data:")):
            complaints.append(url)

    yield opened
    for each in contexts:
        each.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_everybody_can_read_them(show: Show, file: Path, swept: Path, scheme: str, width: int) -> None:
    for each in (file, swept):
        assert show(of=each, scheme=scheme, width=width).evaluate(LOOKS) == []


def test_the_best_is_framed_in_the_heat_map(show: Show, swept: Path) -> None:
    page = show(of=swept, scripts=False)

    assert page.locator("td.best").count() == 1
    assert page.locator("script, img").count() == 0
    best = float(page.locator("td.best").inner_text().replace("−", "-"))
    cells = [text.replace("−", "-") for text in page.locator("table.heat td").all_inner_texts()]
    assert best == max(float(text) for text in cells if text)


def test_a_strangers_text_is_shown_and_does_nothing(show: Show) -> None:
    page = show()

    assert page.title().startswith("Nine days </h1></title><script>")
    assert page.get_by_role("heading", level=1).inner_text() == f"Nine days {HOSTILE}"
    assert page.locator("script, img").count() == 0


def test_without_scripts_the_curves_are_drawn_where_they_belong(show: Show) -> None:
    page = show(scripts=False, width=400)

    plot = page.locator("#h-equity ~ figure svg").first.bounding_box()
    assert plot is not None
    for kind in ("own", "held", "benchmark", "costless"):
        line = page.locator(f"#h-equity ~ figure polyline.{kind}").first.bounding_box()
        assert line is not None
        assert line["width"] == pytest.approx(plot["width"], abs=3)
        assert line["height"] > 20
        assert plot["y"] - 3 <= line["y"] <= line["y"] + line["height"] <= plot["y"] + plot["height"] + 3
    charts = page.locator("figure:has(use)")
    assert charts.count() == 6
    frame = charts.first.locator("svg").first.bounding_box()
    assert frame is not None
    for mark in charts.first.locator("use.entry").all()[:20]:
        box = mark.bounding_box()
        assert box is not None
        # A triangle keeps its shape however wide the plot is.
        assert box["width"] == pytest.approx(10, abs=1.5)
        assert box["height"] == pytest.approx(9, abs=1.5)
        assert frame["x"] - 6 <= box["x"] <= frame["x"] + frame["width"] + 6
