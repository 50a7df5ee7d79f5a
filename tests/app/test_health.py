"""Health while the server is busy, and the addresses that it gives others."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import polars as pl
import pytest

from app.api import READERS_MAX
from app.server import Server
from app.settings import ServerSettings, Settings, StorageSettings
from storage.store import CLIENTS_MAX

ANY_PORT = "127.0.0.1:0"


@contextmanager
def running(folder, ui=ANY_PORT):
    ports = ServerSettings(http=ANY_PORT, grpc=ANY_PORT, ui=ui, sql=ANY_PORT, trust_network=True)
    server = Server(Settings(storage=StorageSettings(data=folder / "data"), server=ports), lambda _text: None)
    try:
        yield server
    finally:
        server.stop()


def test_health_reading_and_metrics_answer_while_many_wait_for_the_job(tmp_path, monkeypatch):
    with running(tmp_path) as server, ThreadPoolExecutor(45) as pool:
        may_run = threading.Event()
        run = server.job.run

        def late(progress, *, everything):
            may_run.wait(60)
            return run(progress, everything=everything)

        monkeypatch.setattr(server.job, "run", late)
        ask = server.url("ui")
        waiting = [pool.submit(httpx2.post, ask + "/api/analyze", timeout=90) for _ in range(45)]
        try:
            wait_until(lambda: open_connections(server) >= 45)
            for path in ("/healthz", "/readyz", "/metrics", "/api/incidents"):
                assert httpx2.get(ask + path, timeout=5).status_code == 200
        finally:
            may_run.set()
        assert {each.result().status_code for each in waiting} == {200}


def test_readers_leave_the_store_to_the_committers_and_health_answers(tmp_path, monkeypatch):
    with running(tmp_path) as server, ThreadPoolExecutor(45) as pool:
        may_read, reading = threading.Event(), []

        def slow(*_args):
            reading.append(1)
            may_read.wait(60)
            return pl.DataFrame()

        monkeypatch.setattr("app.answers.incidents", slow)
        ask = server.url("ui")
        waiting = [pool.submit(httpx2.get, ask + "/api/incidents", timeout=90) for _ in range(45)]
        try:
            wait_until(lambda: open_connections(server) >= 45 and len(reading) >= 10)
            time.sleep(0.5)
            assert len(reading) == READERS_MAX < CLIENTS_MAX  # each has at most one of the store's clients
            assert httpx2.get(ask + "/healthz", timeout=5).status_code == 200
            assert httpx2.get(ask + "/readyz", timeout=5).json()["store"] == "up"
            assert httpx2.get(ask + "/metrics", timeout=5).status_code == 200
        finally:
            may_read.set()
        assert {each.result().status_code for each in waiting} == {200}


def open_connections(server):
    (count,) = [
        each.value
        for each in server.counts()
        if each.name == "pennytrace_open_connections" and each.labels["listener"] == "ui"
    ]
    return count


def wait_until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("ui", ["0.0.0.0:0", ANY_PORT])
def test_links_lead_to_this_machine_and_not_to_every_address(tmp_path, ui):
    with running(tmp_path, ui) as server:
        port = server.url("ui").rpartition(":")[2]
        assert httpx2.get(server.url("ui") + "/healthz").status_code == 200
        assert server.url("ui") == f"http://127.0.0.1:{port}"
        name = socket.gethostname() if ui.startswith("0") else "127.0.0.1"
        assert server.url("ui", by_name=True) == f"http://{name}:{port}"
        assert server.addresses()["page"] == f"http://{ui.rpartition(':')[0]}:{port}"
