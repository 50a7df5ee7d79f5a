"""The scraper against real HTTP servers, into the real store."""

from __future__ import annotations

import gzip
import logging
import random
import socket
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from collector.scraping.scraper import Scraper
from collector.scraping.settings import ScrapeSettings, ScrapeTarget
from tests.collector.bodies import NOW
from tests.collector.serving import total

PAGES = Path(__file__).parent / "expositions"
WAIT_S = 30


class Engine:
    """A metrics page whose content, status and manners a test can change while it runs."""

    def __init__(self) -> None:
        self.content = b""
        self.status = 200
        self.headers = {"content-type": "text/plain; version=0.0.4"}
        self.drops_a_second = 0
        self.asked: list[dict[str, str]] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.asked.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(engine.status)
                for name, value in engine.headers.items():
                    self.send_header(name, value)
                self.send_header("connection", "close")
                self.end_headers()
                self.close_connection = True
                if not engine.drops_a_second:
                    self.wfile.write(engine.content)
                for at in range(len(engine.content) if engine.drops_a_second else 0):
                    self.wfile.write(engine.content[at : at + 1])
                    time.sleep(1 / engine.drops_a_second)

            def log_message(self, *_: object) -> None:
                """Not on the test's output."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A scraper that hangs up is what is tested."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.close()


@contextmanager
def scraping(ingest, *targets: ScrapeTarget):
    scraper = Scraper(targets, ingest, lambda: NOW, random.Random(1))
    try:
        yield scraper
    finally:
        scraper.close()


def target(url: str, **settings: object) -> ScrapeTarget:
    return ScrapeTarget.model_validate({"url": url, "service": "reasoner", "interval_s": 1, "timeout_s": 1} | settings)


def wait_until(is_so) -> None:
    until = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def scrapes(scraper: Scraper, outcome: str) -> float:
    return total(scraper.counts(), "pennytrace_scrapes_total", outcome=outcome)


def points(store, service: str) -> list[dict[str, object]]:
    return store.frame_of(
        "SELECT metric, kind::String AS kind, value, attributes, resource, tenant, count, buckets "
        "FROM metric_points FINAL WHERE service = {service:String} ORDER BY metric",
        {"service": service},
    ).to_dicts()


def stored_points(store, service: str) -> list[dict[str, object]]:
    wait_until(lambda: points(store, service))
    return points(store, service)


def test_an_engines_page_is_stored_with_the_resource_of_its_target(engine, ingest, store):
    engine.content = (PAGES / "vllm.txt").read_bytes()
    with scraping(ingest, target(engine.url, resource={"service.instance.id": "pod-1"}, tenant="acme")) as scraper:
        wait_until(lambda: scrapes(scraper, "ok") >= 1)
    rows = stored_points(store, "reasoner")
    [tokens] = [row for row in rows if row["metric"] == "vllm:prompt_tokens_total"]
    assert (tokens["kind"], tokens["value"], tokens["tenant"]) == ("sum", 1842917.0, "acme")
    assert tokens["resource"] == '{"service.instance.id":"pod-1","service.name":"reasoner"}'
    [latency] = [row for row in rows if row["kind"] == "histogram"]
    assert (latency["count"], latency["buckets"]) == (1292, [0, 311, 879, 102])


def test_the_ledger_reads_what_a_dcgm_exporter_says(engine, ingest, store):
    engine.content = (PAGES / "dcgm.txt").read_bytes()
    with scraping(ingest, target(engine.url, resource={"service.instance.id": "gpu-node-1"})) as scraper:
        wait_until(lambda: scrapes(scraper, "ok") >= 1)
    stored_points(store, "reasoner")
    hour = NOW.replace(minute=0)
    found = store.frame("gpu_points", since=hour, until=hour + timedelta(hours=1)).sort("gpu_id").to_dicts()
    assert [(row["gpu_id"][:5], row["replica"], row["utilization_sum"], row["memory_sum"]) for row in found] == [
        ("GPU-1", "gpu-node-1", 0.87, 71402 * 2**20),
        ("GPU-7", "gpu-node-1", 0.33187, 20011 * 2**20),
    ]


def test_what_is_said_about_a_target_is_no_sign_that_its_replica_lives(engine, ingest, store):
    engine.status = 503
    with scraping(ingest, target(engine.url)) as scraper:
        wait_until(lambda: scrapes(scraper, "refused") >= 1)
    rows = stored_points(store, "pennytrace.scraper")
    assert {row["metric"]: row["value"] for row in rows if row["metric"] != "scrape_duration_seconds"} == {
        "up": 0.0,
        "scrape_samples_scraped": 0.0,
    }
    assert rows[0]["attributes"]["url.full"] == engine.url
    assert points(store, "reasoner") == []


def test_a_target_that_goes_and_comes_back_is_logged_once_each_time(engine, ingest, caplog):
    caplog.set_level(logging.INFO, logger="collector.scraping.scraper")
    engine.content, engine.status = b"a 1\n", 500
    with scraping(ingest, target(engine.url)) as scraper:
        wait_until(lambda: scrapes(scraper, "refused") >= 2)
        engine.status = 200
        wait_until(lambda: scrapes(scraper, "ok") >= 2)
    said = [record.message for record in caplog.records if record.name == "collector.scraping.scraper"]
    assert said == ["a scrape target gives no metrics", "a scrape target gives metrics again"]


def test_a_target_where_nobody_listens_does_not_keep_others_from_their_turn(engine, ingest):
    engine.content = b"a 1\n"
    nobody = Engine()
    nobody.close()
    with scraping(ingest, target(nobody.url), target(engine.url)) as scraper:
        wait_until(lambda: scrapes(scraper, "down") >= 1 and scrapes(scraper, "ok") >= 1)


@pytest.mark.parametrize(
    ("content", "headers", "outcome"),
    [
        (b"a 1\n" * 2000, {}, "too_large"),
        (gzip.compress(bytes(10**8)), {"content-encoding": "gzip"}, "too_large"),
        (b"<html>it works</html>", {}, "unreadable"),
        (b"a{b='\xff'} 1\n", {}, "unreadable"),
        (b"no gzip at all", {"content-encoding": "gzip"}, "down"),
    ],
)
def test_a_page_that_cannot_be_read_is_counted_by_its_reason(engine, ingest, content, headers, outcome):
    engine.content = content
    engine.headers |= headers
    with scraping(ingest, target(engine.url, body_bytes_max=4096)) as scraper:
        wait_until(lambda: scrapes(scraper, outcome) >= 1)


def test_a_page_that_comes_drop_by_drop_ends_with_the_timeout(engine, ingest):
    engine.content, engine.drops_a_second = b"a 1\n" * 100, 10
    started = time.monotonic()
    with scraping(ingest, target(engine.url)) as scraper:
        wait_until(lambda: scrapes(scraper, "down") >= 1)
    assert time.monotonic() - started < 10  # all of it would take forty seconds


def test_the_token_and_the_wish_for_openmetrics_are_sent(engine, ingest):
    engine.content = b"a 1\n"
    with scraping(ingest, target(engine.url, bearer_token=SecretStr("t0ken"))) as scraper:
        wait_until(lambda: scrapes(scraper, "ok") >= 1)
    assert engine.asked[0]["authorization"] == "Bearer t0ken"
    assert "application/openmetrics-text" in engine.asked[0]["accept"]


def test_a_gzipped_page_is_unpacked(engine, ingest, store):
    engine.content, engine.headers["content-encoding"] = gzip.compress(b"a 1\n"), "gzip"
    with scraping(ingest, target(engine.url)) as scraper:
        wait_until(lambda: scrapes(scraper, "ok") >= 1)
    assert [row["metric"] for row in stored_points(store, "reasoner")] == ["a"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "ftp://host/metrics"}, r"expected http\(s\)://"),
        ({"url": "http://user:word@host/metrics"}, "without credentials"),
        ({"timeout_s": 9, "interval_s": 5}, "timeout_s of at most interval_s"),
        ({"service": ""}, "at least 1 character"),
        ({"intervals": 5}, "Extra inputs"),
    ],
)
def test_a_wrong_target_is_refused_with_what_was_expected(settings, complaint):
    entry = {"url": "http://127.0.0.1:8000/metrics", "service": "reasoner"} | settings
    with pytest.raises(ValidationError, match=complaint):
        ScrapeSettings.model_validate({"targets": [entry]})


def test_a_replica_is_called_after_its_address_unless_it_has_a_name():
    assert target("http://10.0.0.7:8000/metrics").resource_attributes == {
        "service.name": "reasoner",
        "service.instance.id": "10.0.0.7:8000",
    }


def test_a_head_that_never_ends_stops_neither_the_other_targets_nor_the_scraper(engine, ingest):
    engine.content = b"a 1\n"
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as dribbler:

        def dribble():
            connection, _ = dribbler.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not done.wait(0.1):
                    connection.sendall(b"y")

        thread = threading.Thread(target=dribble)
        thread.start()
        slow = target(f"http://127.0.0.1:{dribbler.getsockname()[1]}/metrics", service="slow")
        with scraping(ingest, slow, target(engine.url)) as scraper:
            wait_until(lambda: scrapes(scraper, "down") >= 1 and scrapes(scraper, "ok") >= 2)
            closing = time.monotonic()
        assert time.monotonic() - closing < 5
        done.set()
        thread.join()


def test_the_query_of_a_url_is_asked_for_but_never_shown(engine, ingest, store):
    engine.content = b"a 1\n"
    with scraping(ingest, target(engine.url + "?token=secret")) as scraper:
        wait_until(lambda: scrapes(scraper, "ok") >= 1)
        assert "secret" not in str(scraper.counts())
    assert stored_points(store, "pennytrace.scraper")[0]["attributes"]["url.full"] == engine.url
    assert target(engine.url + "?token=secret").path == "/metrics?token=secret"
