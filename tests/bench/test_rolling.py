"""`make rolling`, twice instead of twenty times, and of its orders the one that replaces every worker."""

from __future__ import annotations

from pathlib import Path

from bench.rolling import roll
from tests.support.programs import needs


@needs("nginx", "wrk")
async def test_reloads_under_load_behind_nginx_lose_nothing(tmp_path: Path) -> None:
    row, lost = await roll(tmp_path, "reload", 2)
    assert lost == 0, row
    assert "reset" not in row
