#!/bin/bash
# Run once by the ClickHouse image: the user that Grafana reads with. Only the password's hash
# goes into the statement, so that no character of the password can end a string there.
set -e
hash=$(printf '%s' "$READER_PASSWORD" | sha256sum | cut -d ' ' -f 1)
clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --multiquery <<SQL
CREATE USER IF NOT EXISTS reader IDENTIFIED WITH sha256_hash BY '$hash' SETTINGS readonly = 2;
GRANT SELECT ON pennytrace.* TO reader;
SQL
