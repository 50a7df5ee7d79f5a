"""Provisioning files; Grafana fills in ${NAME} from its own environment."""

from __future__ import annotations

# `defaultDatabase`, not `database`: the plugin ignores the latter.
DATA_SOURCE = """\
# Written by `pennytrace dashboards build`. Needs the plugin grafana-clickhouse-datasource 4.20 or newer.
apiVersion: 1
datasources:
  - name: Pennytrace
    uid: pennytrace
    type: grafana-clickhouse-datasource
    access: proxy
    editable: false
    jsonData:
      protocol: http
      host: ${PENNYTRACE_SQL_HOST}
      port: ${PENNYTRACE_SQL_PORT}
      username: reader
      secure: false
      defaultDatabase: pennytrace
      dialTimeout: "10"
      queryTimeout: "60"
    secureJsonData:
      password: ${PENNYTRACE_SQL_PASSWORD}
"""

DASHBOARDS = """\
# Written by `pennytrace dashboards build`. Mount the folder dashboards/ beside provisioning/ where `path` says.
apiVersion: 1
providers:
  - name: Pennytrace
    folder: Pennytrace
    folderUid: pennytrace
    type: file
    disableDeletion: true
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options:
      path: /var/lib/grafana/dashboards
"""
