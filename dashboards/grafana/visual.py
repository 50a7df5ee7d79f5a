"""A panel of the catalogue as a Grafana panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.grafana.classic import builders, common, common_builders, models, stat, table, timeseries
from dashboards.grafana.macros import grafana_sql
from dashboards.grafana.query import DATA_SOURCE, ClickHouseQuery, Target

if TYPE_CHECKING:
    from dashboards.panel import Panel, Unit

UNITS: dict[Unit, str] = {
    "usd": "currencyUSD",
    "ratio": "percentunit",
    "tokens": "short",
    "count": "locale",
    "per_minute": "cpm",
    "text": "string",
    "state": "string",
    "time": "time:YYYY-MM-DD HH:mm",
}
COLOURS = {"warning": "orange", "critical": "red"}
# Facts are hourly: a finer interval shows nothing more.
INTERVAL_MIN = "1h"
Visual = timeseries.Panel | stat.Panel | table.Panel


def visual(panel: Panel) -> Visual:
    """The panel's builder, without its place and number."""
    return (
        _shape(panel)
        .title(panel.title)
        .description(panel.description)
        .datasource(DATA_SOURCE)
        .unit(UNITS[panel.unit])
        .interval(INTERVAL_MIN)
        .no_value("unknown")
        .thresholds(_thresholds(panel))
        .with_target(_target(panel))
    )


def _shape(panel: Panel) -> Visual:
    if panel.kind == "timeseries":
        return _timeseries(panel)
    return _stat(panel) if panel.kind == "stat" else _table(panel)


def _target(panel: Panel) -> Target:
    return Target(ClickHouseQuery(grafana_sql(panel.sql), "timeseries" if panel.kind == "timeseries" else "table"))


def _thresholds(panel: Panel) -> builders.ThresholdsConfig:
    steps = [models.Threshold(value=None, color="green" if panel.thresholds else "text")]
    steps += [models.Threshold(value=each.value, color=COLOURS[each.level]) for each in panel.thresholds]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _summary(panel: Panel) -> list[str]:
    """What the legend sums a series up with. A mean of ratios or of rates per request would weigh no hour right."""
    if panel.stacked:
        return ["sum"]
    return ["mean"] if panel.unit == "per_minute" else []


def _timeseries(panel: Panel) -> timeseries.Panel:
    legend = (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)  # noqa: FBT003 - the builder's only way
        .calcs(["lastNotNull", *_summary(panel)])
    )
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    drawn = timeseries.Panel().display_name("${__field.labels.series}").min(0).legend(legend).tooltip(tooltip)
    if panel.unit == "ratio":
        drawn = drawn.max(1)
    if not panel.stacked:
        return drawn.line_width(2).fill_opacity(0)
    stacking = common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
    stepped = drawn.line_width(1).fill_opacity(70).line_interpolation(common.LineInterpolation.STEP_AFTER)
    return stepped.stacking(stacking)


def _stat(panel: Panel) -> stat.Panel:
    reduced = common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("/^value$/").values(False)  # noqa: FBT003
    coloured = common.BigValueColorMode.VALUE if panel.thresholds else common.BigValueColorMode.NONE
    return stat.Panel().reduce_options(reduced).graph_mode(common.BigValueGraphMode.NONE).color_mode(coloured)


def _table(panel: Panel) -> table.Panel:
    drawn = table.Panel()
    for column in panel.columns:
        drawn = drawn.override_by_name(
            column.name,
            [_property("displayName", column.title), _property("unit", UNITS[column.unit])],
        )
    return drawn


def _property(name: str, value: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val=name, value=value)
