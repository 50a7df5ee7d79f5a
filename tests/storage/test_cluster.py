"""The statements for a cluster come from the schema's own text and are what the engine's parser takes."""

import pytest

from storage import EmbeddedLocation, ServerLocation, Store, migrations
from storage.cluster import clustered, sharded_tables, sharding_key
from storage.migrations import all_migrations

EVERY_STATEMENT = [statement for migration in all_migrations() for statement in migration.statements]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store") / "data"))
    yield opened
    opened.close()


def test_every_statement_of_the_schema_is_parsed_by_the_engine(store):
    for statement in [*EVERY_STATEMENT, migrations.RECORD, "CREATE DATABASE IF NOT EXISTS pennytrace"]:
        for each in clustered(statement, "main"):
            formatted = store.frame_of("SELECT formatQuery({q:String}) AS text", {"q": each})["text"].item()
            assert "ON CLUSTER main" in formatted


def test_every_table_that_holds_rows_is_replicated_and_distributed(store):
    made = [each for statement in EVERY_STATEMENT for each in clustered(statement, "main")]
    engines = store.frame_of(
        "SELECT name FROM system.tables WHERE database = 'pennytrace' AND engine LIKE '%MergeTree' "
        "AND name != 'schema_migrations'"
    )["name"].to_list()
    assert sharded_tables() == set(engines)
    for table in engines:
        assert any(f"TABLE IF NOT EXISTS {table}_local ON CLUSTER" in each and "= Replicated" in each for each in made)
        assert any(f"TABLE IF NOT EXISTS {table} ON CLUSTER 'main' AS {table}_local" in each for each in made)


def test_replication_keeps_the_engines_arguments_and_settings():
    local, distributed = clustered(
        "CREATE TABLE IF NOT EXISTS t (a UInt8, b UInt8) ENGINE = ReplacingMergeTree(b)\n"
        "PARTITION BY a ORDER BY (a, b)\nSETTINGS non_replicated_deduplication_window = 1000",
        "main",
    )
    assert local == (
        "CREATE TABLE IF NOT EXISTS t_local ON CLUSTER 'main' (a UInt8, b UInt8) ENGINE = "
        "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', b)\n"
        "PARTITION BY a ORDER BY (a, b)\nSETTINGS replicated_deduplication_window = 10000, "
        "replicated_deduplication_window_seconds = 604800"
    )
    assert distributed == (
        "CREATE TABLE IF NOT EXISTS t ON CLUSTER 'main' AS t_local "
        "ENGINE = Distributed('main', currentDatabase(), 't_local', cityHash64(a, b))"
    )


def sharding_keys(store):
    """Of every table: what it is sharded by, and the columns whose equality makes two rows one."""
    identities = dict(
        store.frame_of("SELECT name, sorting_key FROM system.tables WHERE database = 'pennytrace'").rows()
    )
    for statement in EVERY_STATEMENT:
        made = clustered(statement, "main")
        if len(made) == 2 and made[0].startswith("CREATE TABLE"):
            name = made[1].split()[5]
            yield name, sharding_key(made[0]), identities[name]


def test_duplicates_meet_on_one_shard(store):
    keys = {name: (key, identity) for name, key, identity in sharding_keys(store)}
    assert keys["spans"][0] == keys["calls_by_generation"][0] == "cityHash64(trace_id)"
    assert keys["metric_points"][0] == "cityHash64(metric, service, time)"
    assert keys["log_records"][0] == "cityHash64(service, time, trace_id, span_id, tenant)"
    for key, identity in keys.values():
        columns = key.removeprefix("cityHash64(").removesuffix(")").split(", ")
        assert set(columns) <= set(identity.replace("toStartOfHour(", "").replace(")", "").split(", "))


def test_a_view_reads_its_shards_rows_and_writes_to_all_shards():
    (view,) = clustered(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v TO dirty_hours AS SELECT started_at AS hour FROM spans", "main"
    )
    assert view == (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v ON CLUSTER 'main' TO dirty_hours AS "
        "SELECT started_at AS hour FROM spans_local"
    )


def test_the_view_that_decodes_reads_the_node_that_was_sent_to():
    (decoding,) = [each for each in EVERY_STATEMENT if "otlp_spans_to_spans TO spans" in each]
    (view,) = clustered(decoding, "main")
    assert "ON CLUSTER 'main' TO spans AS" in view
    assert "FROM otlp_spans\n" in view


def test_a_readers_view_looks_up_committed_runs_on_all_shards():
    (view,) = clustered("CREATE VIEW IF NOT EXISTS v AS SELECT 1 FROM t WHERE (a) IN (SELECT a FROM u)", "main")
    assert "(a) GLOBAL IN (SELECT a FROM u)" in view


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("ALTER TABLE spans MODIFY SETTING a = 1", ["ALTER TABLE spans_local ON CLUSTER 'main' MODIFY SETTING a = 1"]),
        (
            "ALTER TABLE spans ADD COLUMN a UInt8",
            [
                "ALTER TABLE spans_local ON CLUSTER 'main' ADD COLUMN a UInt8",
                "ALTER TABLE spans ON CLUSTER 'main' ADD COLUMN a UInt8",
            ],
        ),
        (
            "ALTER TABLE spans ADD COLUMN a UInt8, MODIFY ORDER BY (b, f(c), a)",
            [
                "ALTER TABLE spans_local ON CLUSTER 'main' ADD COLUMN a UInt8, MODIFY ORDER BY (b, f(c), a)",
                "ALTER TABLE spans ON CLUSTER 'main' ADD COLUMN a UInt8",
            ],
        ),
        (
            "ALTER TABLE spans MODIFY COLUMN a MATERIALIZED b",
            [
                "ALTER TABLE spans_local ON CLUSTER 'main' MODIFY COLUMN a MATERIALIZED b",
                "ALTER TABLE spans ON CLUSTER 'main' MODIFY COLUMN a MATERIALIZED b",
            ],
        ),
        (
            "ALTER TABLE spans MODIFY COLUMN a CODEC(NONE)",
            ["ALTER TABLE spans_local ON CLUSTER 'main' MODIFY COLUMN a CODEC(NONE)"],
        ),
        ("ALTER TABLE otlp_spans ADD COLUMN a UInt8", ["ALTER TABLE otlp_spans ON CLUSTER 'main' ADD COLUMN a UInt8"]),
        (
            "ALTER TABLE spans DROP PARTITION ID '202605'",
            ["ALTER TABLE spans_local ON CLUSTER 'main' DROP PARTITION ID '202605'"],
        ),
        ("DELETE FROM hour_runs WHERE 1", ["DELETE FROM hour_runs_local ON CLUSTER 'main' WHERE 1"]),
        ("INSERT INTO hour_runs SELECT 1", ["INSERT INTO hour_runs SELECT 1"]),
    ],
)
def test_changes_go_where_the_rows_are(statement, expected):
    assert clustered(statement, "main") == expected


def test_columns_are_only_modified_in_ways_that_leave_the_distributed_table_right():
    """A codec is nothing to the Distributed table and a default is repeated there; a new type would be neither."""
    for statement in EVERY_STATEMENT:
        for part in statement.split("MODIFY COLUMN ")[1:]:
            assert part.split()[1].startswith(("CODEC(", "MATERIALIZED")), part


def test_a_clusters_name_cannot_carry_sql():
    with pytest.raises(ValueError, match="expected a cluster's name"):
        ServerLocation("http://127.0.0.1:8123", "x' SYNC")
