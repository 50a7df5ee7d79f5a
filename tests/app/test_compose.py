"""docker-compose.yml against the code: no container engine runs here, so what it names is checked to exist."""

import re
from pathlib import Path

import pytest
import yaml

from app.settings_page import describe_settings

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_every_setting_given_to_the_server_exists():
    known = {setting.variable for setting in describe_settings()}
    assert set(SERVICES["pennytrace"]["environment"]) <= known


@pytest.mark.parametrize("service", list(SERVICES))
def test_every_mounted_file_exists_and_every_port_is_on_loopback(service):
    mounts = [volume.split(":")[0] for volume in SERVICES[service].get("volumes", ())]
    assert [path for path in mounts if path.startswith("./") and not (ROOT / path).exists()] == []
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[service].get("ports", ()))


def test_grafana_is_given_every_variable_that_its_provisioning_reads():
    provisioning = (ROOT / "dashboards/grafana/provisioning/datasources/pennytrace.yaml").read_text()
    read = set(re.findall(r"\$\{?(PENNYTRACE_\w+)", provisioning))
    assert read
    assert read <= set(SERVICES["grafana"]["environment"])
