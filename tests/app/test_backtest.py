"""`pennytrace backtest`, as it is called."""

from __future__ import annotations

import json

import polars as pl
import pytest

from tests.analytics.detection.usage import WEEK, Change, Endpoint, frame
from tests.app.serving import pennytrace

AT = 6 * WEEK + 30


@pytest.fixture(scope="module")
def usage(tmp_path_factory):
    path = tmp_path_factory.mktemp("usage") / "usage.parquet"
    grew = Endpoint("/grew", changes=(Change(AT, AT + 72, input=1.8),))
    frame([grew, Endpoint("/calm")]).write_parquet(path)
    return path


def test_a_backtest_writes_alarms_and_says_how_many(usage, tmp_path):
    to = tmp_path / "alarms.parquet"
    done = pennytrace("backtest", usage, "--out", to, "--explain", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["alarms_by_kind"] == {"prompt_bloat": 1}
    alarms = pl.read_parquet(to)
    assert set(alarms["endpoint"]) == {"/grew"}
    assert alarms.height == said["alarm_hours"]
    assert alarms["excess_usd"].min() > 0


def test_tuning_shows_a_row_for_every_threshold(usage, tmp_path):
    done = pennytrace("backtest", usage, "--tune", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["tune"]) == 6


def test_what_cannot_be_read_is_an_error_that_says_what_was_expected(usage, tmp_path):
    other = tmp_path / "other.parquet"
    pl.DataFrame({"endpoint": ["/a"]}).write_parquet(other)
    for arguments, expected in (
        ((usage,), "expected --out"),
        ((usage, "--explain", "--tune"), "with --explain"),
        ((usage, "--out", usage), "would be overwritten"),
        ((usage, "--out", tmp_path), "is a folder"),
        ((usage, "--out", tmp_path / "none" / "alarms.parquet"), "existing folder"),
        ((tmp_path / "none.parquet", "--out", other), "expected a Parquet file"),
        ((other, "--out", tmp_path / "alarms.parquet"), "expected the columns"),
        ((usage, "--out", other, "--min-usd-per-day", "lots"), "got 'lots'"),
    ):
        failed = pennytrace("backtest", *arguments, cwd=tmp_path)
        assert failed.returncode == 1
        assert expected in failed.stderr
