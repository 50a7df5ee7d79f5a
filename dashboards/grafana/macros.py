"""Our {name:Type} parameters in the words of Grafana and its ClickHouse plugin."""

from __future__ import annotations

import re

from dashboards.panel import DIMENSIONS

# Expanded by the plugin's backend, so that alert rules understand them as well.
TIMES = {"since": "$__fromTime_ms", "until": "$__toTime_ms", "step_seconds": "$__interval_s"}
# What the variable's All puts between the brackets. Every value of a dimension may be thousands long; a
# comment leaves the empty array that our queries read as "all".
ALL_VALUES = "/*all*/"


def grafana_sql(sql: str) -> str:
    """The statement without comments, macros and template variables in place of parameters.

    Raises ValueError for a parameter that Grafana has no word for.
    """
    bare = re.sub(r"^--.*\n", "", sql, flags=re.MULTILINE)
    return re.sub(r"\{(\w+):[^{}]+\}", lambda found: _word(found[1]), bare)


def _word(name: str) -> str:
    if name in TIMES:
        return TIMES[name]
    if name in DIMENSIONS:
        return f"CAST([${{{name}:singlequote}}], 'Array(String)')"
    expected = ", ".join([*TIMES, *DIMENSIONS])
    raise ValueError(
        f"expected a parameter of {expected}, got {name!r}: give it a word in dashboards/grafana/macros.py"
    )
