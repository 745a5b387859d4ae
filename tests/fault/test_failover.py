"""Three sentinels, a primary and two replicas, under load: the primary is replaced, and every task is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.failovers import KINDS, WORKERS, fail_over

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failover_loses_nothing_that_reached_the_new_primary(kind: str, tmp_path: Path) -> None:
    told = await fail_over(tmp_path, kind)

    print(told.row)
    assert told.pushed > 20
    assert [case for case in told.lost + told.twice if not case.is_of_replication] == []
    # No worker is stuck on what was the primary, and none stormed the sentinels while they still named it: two workers
    # and a producer with about a dozen connections keep one each to a sentinel.
    assert len(told.starts_after) == WORKERS
    assert told.sentinel_connects_a_second < 20
