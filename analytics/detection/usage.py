"""Usage of many endpoints as dense arrays: a row per endpoint and model, a column per hour.

The frame has a row per (endpoint, hour_start, model) with traffic: requests, calls, input_tokens, cached_tokens (part
of input), output_tokens, and the prices in force in dollars per million tokens. Hours without rows are gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Number = TypeVar("Number", bound=np.floating[Any])
COUNTS = ("requests", "calls", "input_tokens", "cached_tokens", "output_tokens")
PRICES = ("price_input_usd_per_mtok", "price_cached_usd_per_mtok", "price_output_usd_per_mtok")
COLUMNS = ("endpoint", "hour_start", "model", *COUNTS, *PRICES)
READ, CACHED, ANSWERED = (pl.col(name).cast(pl.Float64) for name in COUNTS[2:])
UNITS = (READ - CACHED, CACHED, ANSWERED)
KEY = ("endpoint", "model", "hour_start")
HOUR = pl.Datetime("us", "UTC")
# So many endpoints fit a processor's cache and bound the memory.
ENDPOINTS_A_PIECE = 50
# So many endpoints' rows are read at once.
ENDPOINTS_IN_MEMORY = 2000


class UsageError(ValueError):
    """A usage frame that cannot be read: what was expected and what came."""


@dataclass(frozen=True)
class Usage:
    """Running totals over hours, from zero: column t is the sum of the hours before hour t.

    `starts` are the first model rows of each endpoint; `sums` are per model row but for `requests`, which are per
    endpoint. `prices` hold the last known price of each hour, NaN before the first.
    """

    endpoints: tuple[str, ...]
    models: tuple[str, ...]
    first_hour: int
    starts: Ints
    sums: dict[str, Floats]
    prices: dict[str, Floats]
    born: Ints

    @property
    def hours(self) -> int:
        """How many hours there are."""
        hours: int = self.sums["requests"].shape[1] - 1
        return hours

    def per_endpoint(self, rows: NDArray[Number]) -> NDArray[Number]:
        """Sums of the models' rows for each endpoint."""
        # Endpoints have few models, and numpy's reduceat is several times slower than a few additions.
        counts = np.diff(np.append(self.starts, len(self.models)))
        summed: NDArray[Number] = rows[self.starts]
        for place in range(1, int(counts.max(initial=0))):
            more = np.flatnonzero(counts > place)
            summed[more] += rows[self.starts[more] + place]
        return summed

    def per_model(self, rows: NDArray[Number]) -> NDArray[Number]:
        """Each endpoint's row again for each of its models."""
        return np.repeat(rows, np.diff(np.append(self.starts, len(self.models))), axis=0)


def checked(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns that detection reads, sorted, a row per endpoint, model and hour; times without a zone are UTC.

    Several rows of one key are added up, their prices weighted by tokens. Raises UsageError for part hours and for
    counts or prices that cannot be.
    """
    kind = frame.schema["hour_start"]
    hour = pl.col("hour_start").cast(HOUR)
    if not (isinstance(kind, pl.Datetime) and kind.time_zone):
        hour = pl.col("hour_start").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    rows = frame.select(COLUMNS).with_columns(hour, pl.col("endpoint", "model").cast(pl.String))
    broken = rows.filter(pl.col("hour_start") != pl.col("hour_start").dt.truncate("1h"))
    if broken.height:
        raise UsageError(f"expected whole hours in hour_start, got {broken['hour_start'][0]}")
    for name in (*COUNTS, *PRICES):
        _refuse_impossible(rows, name)
    rows = rows.sort(KEY)
    if rows.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in KEY).any()).item():
        return _merged(rows)
    return rows


def _refuse_impossible(rows: pl.DataFrame, name: str) -> None:
    """Counts are numbers of zero or more; a price may be unknown, too."""
    value = pl.col(name).cast(pl.Float64)
    possible = (value.is_finite() & (value >= 0)).fill_null(value=name in PRICES)
    broken = rows.filter(~possible)
    if broken.height:
        raise UsageError(f"expected numbers of zero or more in {name}, got {broken[name][0]}")


def _merged(rows: pl.DataFrame) -> pl.DataFrame:
    prices = []
    for name, units in zip(PRICES, UNITS, strict=True):
        price = pl.col(name).cast(pl.Float64)
        known = units.filter(price.is_not_null())
        weighted = (price * units).sum() / known.sum()
        prices.append(pl.when(known.sum() > 0).then(weighted).otherwise(price.mean()).alias(name))
    # Sorted by everything, so that sums come out the same whatever the rows' order was.
    return rows.sort(KEY + COUNTS + PRICES).group_by(KEY, maintain_order=True).agg(pl.col(COUNTS).sum(), *prices)


@dataclass(frozen=True)
class Piece:
    """Checked rows of some endpoints, with the hours that all pieces share."""

    rows: pl.DataFrame
    first_hour: int
    hours: int

    def dense(self) -> Usage:
        """The rows as arrays."""
        return dense(self.rows, self.first_hour, self.hours)


def pieces(rows: pl.DataFrame, span: tuple[int, int], size: int = ENDPOINTS_A_PIECE) -> list[Piece]:
    """The checked rows, some endpoints at a time, over the hours from `span`'s first to before its second."""
    lengths = rows["endpoint"].rle().struct.field("len").to_numpy()
    edges = np.concatenate([[0], np.cumsum(lengths)])
    at = [int(edges[place]) for place in range(0, len(lengths), size)] + [int(edges[-1])]
    return [Piece(rows[begin:end], span[0], span[1] - span[0]) for begin, end in pairwise(at)]


def hours_of(source: pl.LazyFrame) -> tuple[int, int]:
    """The first hour of a usage and the hour after its last, counted from 1970; raises UsageError."""
    known = source.collect_schema()
    missing = [name for name in COLUMNS if name not in known]
    if missing:
        raise UsageError(f"expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing")
    hour = known["hour_start"]
    if not isinstance(hour, pl.Datetime):
        raise UsageError(f"expected times in hour_start, got {hour}")
    for name in (*COUNTS, *PRICES):
        if not (known[name].is_numeric() or known[name] == pl.Null):
            raise UsageError(f"expected numbers in {name}, got {known[name]}")
    seconds = pl.col("hour_start").dt.epoch("s")
    missing_keys = [pl.col(name).null_count().alias(name) for name in KEY]
    ends = source.select(seconds.min().alias("first"), seconds.max().alias("last"), *missing_keys).collect()
    for name in KEY:
        if ends[name][0]:
            raise UsageError(f"expected a value in every row of {name}, got {ends[name][0]} without one")
    if ends["first"][0] is None:
        return 0, 0
    return int(ends["first"][0]) // 3600, int(ends["last"][0]) // 3600 + 1


def endpoints_of(source: pl.LazyFrame) -> list[str]:
    """The usage's endpoints, sorted."""
    names = source.select(pl.col("endpoint").cast(pl.String).unique()).collect()["endpoint"].sort()
    return [str(name) for name in names]


def only(source: pl.LazyFrame, wanted: Sequence[str], of: int) -> pl.DataFrame:
    """The rows of the wanted endpoints; all of them where there are no others."""
    if len(wanted) < of:
        source = source.filter(pl.col("endpoint").cast(pl.String).is_in(list(wanted)))
    return source.select(COLUMNS).collect()


def batched(names: Sequence[str], size: int) -> list[Sequence[str]]:
    """The names, so many at a time."""
    return [names[at : at + size] for at in range(0, len(names), size)]


def dense(rows: pl.DataFrame, first_hour: int, hours: int) -> Usage:
    """The sorted rows of some endpoints as arrays over so many hours."""
    keys = rows.select("endpoint", "model").unique(maintain_order=True)
    place = rows.select(pl.struct("endpoint", "model").rle_id())["endpoint"].to_numpy()
    owner = keys["endpoint"].rle_id().to_numpy().astype(np.int64)
    hour = rows["hour_start"].dt.epoch("s").to_numpy() // 3600 - first_hour
    starts = np.flatnonzero(np.append(True, np.diff(owner) > 0))
    count = {name: _spread(rows[name], place, hour, (keys.height, hours)) for name in COUNTS}
    count["requests"] = np.add.reduceat(count["requests"], starts, axis=0)
    seen = count["requests"] > 0
    return Usage(
        endpoints=tuple(keys["endpoint"].unique(maintain_order=True)),
        models=tuple(keys["model"]),
        first_hour=first_hour,
        starts=starts,
        sums={name: _running(values) for name, values in count.items()},
        prices={name: _last_known(rows[name], place, hour, (keys.height, hours)) for name in PRICES},
        born=np.where(seen.any(axis=1), seen.argmax(axis=1), hours),
    )


def hour_numbers(first_hour: int, hours: Sequence[int] | Ints) -> pl.Series:
    """Hours counted from `first_hour`, as times."""
    seconds = (np.asarray(hours, dtype=np.int64) + first_hour) * 3_600_000_000
    return pl.Series("hour_start", seconds).cast(HOUR)


def _spread(values: pl.Series, place: Ints, hour: Ints, shape: tuple[int, int]) -> Floats:
    table = np.zeros(shape)
    np.add.at(table, (place, hour), values.cast(pl.Float64).fill_null(0.0).to_numpy())
    return table


def _running(values: Floats) -> Floats:
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _last_known(values: pl.Series, place: Ints, hour: Ints, shape: tuple[int, int]) -> Floats:
    table = np.full(shape, np.nan)
    table[place, hour] = values.cast(pl.Float64).to_numpy()
    known = np.where(np.isnan(table), 0, np.arange(shape[1]))
    return np.take_along_axis(table, np.maximum.accumulate(known, axis=1), axis=1)
