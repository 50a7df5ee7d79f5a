#!/bin/bash
# Run once by the ClickHouse image: the user that Grafana reads with.
set -e
clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --multiquery <<SQL
CREATE USER IF NOT EXISTS reader IDENTIFIED BY '${READER_PASSWORD//\'/\\\'}' SETTINGS readonly = 2;
GRANT SELECT ON pennytrace.* TO reader;
SQL
