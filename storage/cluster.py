"""The schema on a cluster, from the same text as on one machine.

Every MergeTree table X becomes X_local, replicated on every shard, and a Distributed X over it, so that readers and
writers use the names that they know. The sharding key is a function of what makes a row a duplicate of another
(the trace for spans): duplicates meet on one shard, where FINAL sees them. Null tables and views exist on every node;
a view is fed by the shard's own rows and writes through the Distributed table.
"""

from __future__ import annotations

import re
from functools import cache

from storage.migrations import all_migrations

LOCAL = "_local"
# For every statement of a client: inserts end when the shards have the rows; subqueries over Distributed tables are
# sent along; reads go to one replica of a shard, so that what was just written is seen.
CLIENT_SETTINGS = {
    "distributed_foreground_insert": 1,
    "distributed_product_mode": "global",
    "load_balancing": "in_order",
    # Deletions of stale generations look up the committed ones.
    "allow_nondeterministic_mutations": 1,
}

_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS (?P<name>\w+) \((?P<columns>.*)\)\s*ENGINE = (?P<kind>\w*)MergeTree"
    r"(?:\((?P<arguments>[^)]*)\))?(?P<rest>.*)",
    re.DOTALL,
)
_NAMED = re.compile(r"(CREATE (?:TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS|CREATE DATABASE IF NOT EXISTS) (\w+)")
_CHANGED = re.compile(r"(ALTER TABLE|DELETE FROM) (\w+)")
# Changes of columns that a table without data of its own has to follow, and what it cannot follow: it sorts nothing.
_SHAPE = re.compile(r"\b(ADD|DROP|RENAME) COLUMN\b|\bMODIFY COLUMN \w+ MATERIALIZED\b")
_SORTING = re.compile(r",\s*MODIFY ORDER BY \((?:[^()]|\([^()]*\))*\)")


def clustered(statement: str, cluster: str) -> list[str]:
    """The statements that do on every node of `cluster` what this one does on one machine, in order."""
    text = statement.strip()
    table = _TABLE.fullmatch(text)
    if table:
        return [_replicated(table, cluster), _distributed(table, cluster)]
    changed = _CHANGED.match(text)
    if changed:
        return _changes(text, changed[2], cluster)
    on_cluster = _NAMED.sub(rf"\1 \2 ON CLUSTER '{cluster}'", text, count=1)
    if text.startswith("CREATE MATERIALIZED VIEW"):
        return [_fed_locally(on_cluster)]
    # An IN over a Distributed table would otherwise be asked of each shard for its own rows.
    return [on_cluster.replace(") IN (SELECT", ") GLOBAL IN (SELECT")]


def _replicated(table: re.Match[str], cluster: str) -> str:
    arguments = f", {table['arguments']}" if table["arguments"] else ""
    rest = table["rest"].replace(
        "non_replicated_deduplication_window = 1000",
        # A journal may be replayed days later.
        "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800",
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {table['name']}{LOCAL} ON CLUSTER '{cluster}' ({table['columns']}) "
        f"ENGINE = Replicated{table['kind']}MergeTree('/clickhouse/tables/{{shard}}/{{database}}/{{table}}', "
        f"'{{replica}}'{arguments}){rest}"
    )


def _distributed(table: re.Match[str], cluster: str) -> str:
    name = table["name"]
    return (
        f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER '{cluster}' AS {name}{LOCAL} "
        f"ENGINE = Distributed('{cluster}', currentDatabase(), '{name}{LOCAL}', {sharding_key(table.group())})"
    )


def sharding_key(create_table: str) -> str:
    """What decides a row's shard: its trace where it always has one, else the columns that it is sorted by.

    Columns that the engine computes are left out: who inserts does not send them.
    """
    found = re.search(r"\bORDER BY (\(.*?\)+|\w+)\s*(?:$|\n|SETTINGS)", create_table, re.DOTALL)
    if not found:
        raise ValueError(f"expected a table with ORDER BY, got {create_table[:60]!r}")
    computed = set(re.findall(r"(\w+) \w+ MATERIALIZED", create_table))
    columns = dict.fromkeys(re.findall(r"\b[a-z_]+\b(?!\()", found[1]))
    if "trace_id FixedString" in create_table:
        return "cityHash64(trace_id)"
    return f"cityHash64({', '.join(column for column in columns if column not in computed)})"


def _changes(text: str, name: str, cluster: str) -> list[str]:
    if name not in sharded_tables():
        return [_fed_locally(_CHANGED.sub(rf"\1 \2 ON CLUSTER '{cluster}'", text, count=1))]
    local = _CHANGED.sub(rf"\1 \2{LOCAL} ON CLUSTER '{cluster}'", text, count=1)
    if text.startswith("ALTER") and _SHAPE.search(text):
        return [local, _CHANGED.sub(rf"\1 \2 ON CLUSTER '{cluster}'", _SORTING.sub("", text), count=1)]
    return [local]


def _fed_locally(view: str) -> str:
    """The view with every table that has local rows read as those; what it writes to stays Distributed."""
    return re.sub(r"\bFROM (\w+)", lambda read: f"FROM {read[1]}{LOCAL * (read[1] in sharded_tables())}", view)


@cache
def sharded_tables() -> frozenset[str]:
    """Every table of the schema that holds rows."""
    tables = (_TABLE.fullmatch(statement) for migration in all_migrations() for statement in migration.statements)
    return frozenset(table["name"] for table in tables if table)
