from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector

from aworker.metrics import BUCKETS_S, Histogram
from aworker.web.histograms import render

DURATIONS_S = (0.0, 0.001, 0.0011, 0.3, 4.2, 3_600.0, 3_601.0, 1e6)
NAMES = ("backtest", 'with "quotes"', "back\\slash\\n", "two\nlines", "müßig", "{le=1}")


def of(durations_s: tuple[float, ...]) -> Histogram:
    histogram = Histogram()
    for duration_s in durations_s:
        histogram.observe(duration_s)
    return histogram


def values(text: str, read: Callable[[str], Any]) -> dict[Any, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read(text)
        for sample in family.samples
    }


class _Library(Collector):
    def collect(self) -> Any:
        family = HistogramMetricFamily("run_seconds", "Seconds.", labels=("task_type", "queue"))
        for name in NAMES:
            buckets: list[Any] = [(str(b), sum(d <= b for d in DURATIONS_S)) for b in (*BUCKETS_S, float("inf"))]
            family.add_metric((name, "normal"), [*buckets[:-1], ("+Inf", len(DURATIONS_S))], sum(DURATIONS_S))
        return iter([family])


@pytest.mark.parametrize("read", [read_text, read_openmetrics])
def test_it_says_what_the_library_says(read: Callable[[str], Any]) -> None:
    registry = CollectorRegistry()
    registry.register(_Library())
    theirs = values(generate_latest(registry).decode(), read_text)

    ours = "".join(
        render("run_seconds", "Seconds.", ("task_type", "queue"), {(n, "normal"): of(DURATIONS_S) for n in NAMES})
    )

    found = values(ours + "# EOF\n" * (read is read_openmetrics), read)
    assert found == theirs
    assert len(found) == len(NAMES) * (len(BUCKETS_S) + 3)


def test_one_without_labels_and_one_without_series_are_families_too() -> None:
    text = "".join(
        [*render("lag_seconds", "Late.", (), {(): of((0.5,))}), *render("none_seconds", "None.", ("a",), {})]
    )

    families: list[Metric] = list(read_text(text))
    assert [(family.name, family.type, family.documentation) for family in families] == [
        ("lag_seconds", "histogram", "Late."),
        ("none_seconds", "histogram", "None."),
    ]
    found = values(text, read_text)
    assert found["lag_seconds_count", ()] == 1
    assert found["lag_seconds_sum", ()] == 0.5
    assert found["lag_seconds_bucket", (("le", "0.25"),)] == 0
    assert found["lag_seconds_bucket", (("le", "0.5"),)] == found["lag_seconds_bucket", (("le", "+Inf"),)] == 1


def test_what_stood_once_does_not_stand_twice() -> None:
    table: dict[tuple[str, ...], Histogram] = {("a",): of((1.0,))}
    first = "".join(render("x_seconds", "X.", ("t",), table))
    table["a",].observe(2.0)

    assert values(first, read_text)["x_seconds_count", (("t", "a"),)] == 1
    assert values("".join(render("x_seconds", "X.", ("t",), table)), read_text)["x_seconds_sum", (("t", "a"),)] == 3.0
