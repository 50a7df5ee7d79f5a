"""The detector's parts: baselines that one week does not move, an hour judged alone, trees as scikit-learn has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.detection import DetectionSettings
from analytics.detection.alarms import ringing
from analytics.detection.background import Days
from analytics.detection.cause import split
from analytics.detection.drivers import CAUSES, WINDOWS_HOURS, median_of_weeks
from analytics.detection.features import SIZE_MIN, Vectors, look, summarise_all
from analytics.detection.prices import dearer
from analytics.detection.trees import EVERY_LEAF, LEAVES_MAX, forest_of, shipped_forest
from analytics.detection.univariate import surprises
from analytics.detection.usage import PRICES, Usage, checked, hours_of, pieces
from analytics.detection.verdicts import judge
from tests.analytics.detection.usage import HOURS, WEEK, Change, Endpoint, frame

AT = 6 * WEEK + 30
GREW = Endpoint("/grew", changes=(Change(AT, input=1.6),))
MOVED = Endpoint("/moved", changes=(Change(AT, large=0.4), Change(AT + 20, calls=1.5)))


def usage_of(*endpoints: Endpoint, hours: int = HOURS) -> Usage:
    rows = frame(list(endpoints), hours)
    (piece,) = pieces(checked(rows), hours_of(rows.lazy()))
    return piece.dense()


@given(st.lists(st.one_of(st.none(), st.floats(0.0, 100.0, width=32)), min_size=4, max_size=4))
def test_the_median_of_weeks_is_that_of_the_known_ones(weeks: list[float | None]) -> None:
    known = [week for week in weeks if week is not None]
    arrays = [np.array([np.inf if week is None else week], dtype=np.float32) for week in weeks]
    found = median_of_weeks(arrays)[0]
    assert np.isnan(found) if not known else found == pytest.approx(np.median(known), rel=1e-6)


def test_a_rise_is_the_logarithm_of_what_the_driver_was_multiplied_by() -> None:
    outlook = look(usage_of(GREW), 0, HOURS)
    rise = outlook.rises[24]
    assert rise.lesser["input"][0, AT + 23] == pytest.approx(np.log(1.6), abs=0.06)
    assert abs(rise.lesser["output"][0, AT + 23]) < 0.06
    assert rise.lesser["total"][0, AT + 23] == pytest.approx(np.log(1 + rise.prompt_share[0, AT + 23] * 0.6), abs=0.06)


def test_the_total_is_what_the_drivers_make_together() -> None:
    rise = look(usage_of(MOVED), 0, HOURS).rises[24]
    at = (0, AT + 40)
    share = rise.prompt_share[at]
    logs = {driver: float(rise.level[driver][at]) for driver in CAUSES}
    tokens = share * np.exp(logs["input"] + logs["cache"]) + (1 - share) * np.exp(logs["output"])
    assert float(rise.level["total"][at]) == pytest.approx(logs["calls"] + logs["mix"] + np.log(tokens), abs=1e-4)


def test_bad_days_in_the_past_hardly_move_the_baseline_and_the_usual_size() -> None:
    bad = Endpoint("/grew", changes=(Change(4 * WEEK, 4 * WEEK + 48, input=3.0),))
    clean, poisoned = (look(usage_of(one), 0, HOURS) for one in (replace(bad, changes=()), bad))
    late = (0, slice(HOURS - 48, HOURS))
    for window in WINDOWS_HOURS:
        assert (
            np.abs(clean.rises[window].lesser["input"][late] - poisoned.rises[window].lesser["input"][late]).max() < 0.1
        )
    usual, moved = (np.maximum(one.movement[24].size["input"][late], SIZE_MIN) for one in (clean, poisoned))
    assert (moved / usual).max() < 2


def test_an_hour_judged_alone_is_judged_as_in_the_whole() -> None:
    usage = usage_of(GREW, MOVED)
    settings = DetectionSettings()
    whole = look(usage, 0, HOURS)
    days = summarise_all(whole.rises, usage.first_hour % 24)
    verdicts = judge(whole, settings)
    for hour in (AT + 2, AT + 12, HOURS - 1):
        before = {w: {d: _until(one, hour // 24) for d, one in parts.items()} for w, parts in days.items()}
        alone = judge(look(usage, hour, hour + 1, before), settings)
        assert np.array_equal(alone.score[:, 0], verdicts.score[:, hour])
        assert np.array_equal(alone.is_known[:, 0], verdicts.is_known[:, hour])


def _until(days: Days, day: int) -> Days:
    return Days(days.seasonal[:, :day], days.level[:, :day], days.largest[:, :day])


def test_splitting_a_model_into_two_alike_changes_no_part() -> None:
    rows = frame([GREW])
    halves = [
        rows.with_columns(
            pl.col("model") + name,
            *[(pl.col(count) * 10).alias(count) for count in ("requests", "calls")],
            *[(pl.col(count) * 10).alias(count) for count in ("input_tokens", "cached_tokens", "output_tokens")],
        )
        for name in ("-a", "-b")
    ]
    whole = rows.with_columns(pl.col("requests", "calls", "input_tokens", "cached_tokens", "output_tokens") * 20)
    parts = []
    for one in (whole, pl.concat(halves)):
        (piece,) = pieces(checked(one), hours_of(one.lazy()))
        parts.append(split(look(piece.dense(), 0, HOURS), 0, AT + 30, 24))
    assert float(parts[0].excess_usd) == pytest.approx(float(parts[1].excess_usd), rel=1e-3)
    for driver in CAUSES:
        gap = abs(parts[0].parts_usd[driver] - parts[1].parts_usd[driver])
        assert gap <= abs(parts[0].excess_usd) / 500


def test_prices_of_a_model_that_starts_later_are_no_rise() -> None:
    late = usage_of(Endpoint("/late", changes=(Change(0, AT, large=0.0),)))
    assert not dearer(late, DetectionSettings()).any()


def test_the_trees_score_as_scikit_learn_does() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    from analytics.detection.training.fit import Fit, stored

    rng = np.random.default_rng(5)
    table = rng.normal(size=(600, 4)).astype(np.float32)
    truth = table[:, 0] + table[:, 1] ** 2 > 0.5
    fitted = HistGradientBoostingClassifier(max_iter=12, max_leaf_nodes=LEAVES_MAX, random_state=0).fit(table, truth)
    forest = forest_of(stored(Fit(("a", "b", "c", "d"), fitted, {"a": (-1.0, 1.0)})))
    assert forest.score(table) == pytest.approx(fitted.decision_function(table), abs=1e-3)
    assert forest.is_familiar({"a": table[:, 0]}).tolist() == (np.abs(table[:, 0]) <= 1).tolist()


def test_the_shipped_weights_are_of_the_features_that_the_code_makes() -> None:
    outlook = look(usage_of(GREW), 0, HOURS)
    vectors = Vectors(outlook, np.array([[0], [AT + 10]]))
    assert shipped_forest().features == tuple(vectors.columns)
    for tree in shipped_forest().trees:
        assert len(tree.values) <= LEAVES_MAX
        assert all(0 <= remaining <= EVERY_LEAF for _, _, remaining in tree.splits)


def test_weights_of_other_features_are_refused() -> None:
    shipped = shipped_forest()
    other = replace(shipped, features=(*shipped.features[1:], shipped.features[0]))
    with pytest.raises(ValueError, match="expected weights of the features"):
        judge(look(usage_of(GREW), 0, HOURS), DetectionSettings(), other)


def test_without_any_price_nothing_is_known() -> None:
    priced = frame([Endpoint("/a", changes=(Change(AT, calls=2.0),))])
    unpriced = priced.with_columns(pl.lit(None, pl.Float64).alias(name) for name in PRICES)
    known = []
    for rows in (priced, unpriced):
        (piece,) = pieces(checked(rows), hours_of(rows.lazy()))
        known.append(judge(look(piece.dense(), 0, HOURS), DetectionSettings()).is_known.any())
    assert known == [True, False]


def test_data_unlike_the_training_are_judged_by_the_rule() -> None:
    outlook = look(usage_of(GREW), 0, HOURS)
    forest = replace(shipped_forest(), bounds={"log_requests": (0.0, 1.0)})
    by_rule = judge(outlook, DetectionSettings(learned_enabled=False))
    strange = judge(outlook, DetectionSettings(), forest)
    assert not strange.is_learned.any()
    assert np.array_equal(strange.score, by_rule.score)
    assert judge(outlook, DetectionSettings()).is_learned.any()


def test_an_alarm_begins_after_the_hours_that_it_must_hold_and_again_only_after_quiet_ones() -> None:
    opens = np.zeros((1, 100), dtype=np.bool_)
    opens[0, [5, 10, 11, 12, 30, 31, 70, 71]] = True
    found = ringing(opens, opens, DetectionSettings(hold_hours=2, rearm_hours=24, ring_hours_max=24))
    assert [(alarm.confirmed, alarm.hours) for alarm in found] == [(11, (11, 12, 30, 31)), (71, (71,))]


def test_a_value_outside_the_range_of_its_time_of_day_is_a_surprise_and_a_daily_peak_is_none() -> None:
    rng = np.random.default_rng(1)
    hour = np.arange(40 * 96)
    values = 10 + 5 * (hour % 96 == 40) + rng.normal(0, 0.2, len(hour))
    values[3000:3010] = 15
    found = surprises(values, 96)
    assert found.argmax() == 3000
    assert np.delete(found, 3000).max() < found[3000] / 2
    assert np.array_equal(surprises(values[:3500], 96), found[:3500])
    assert surprises(values, 1).max() == 0
