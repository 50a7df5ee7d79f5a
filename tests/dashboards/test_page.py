"""The page's routes, over HTTP, and the page itself in Chromium where there is one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi.testclient import TestClient

from dashboards import create_page_router
from dashboards.answers import Range
from dashboards.catalogue import all_panels
from dashboards.page import FILES
from tests.dashboards import facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--virtual-time-budget=15000",
    "--dump-dom",
]


@pytest.fixture(scope="module")
def app(store: Store) -> FastAPI:
    app = FastAPI()
    app.include_router(create_page_router(store, lambda: facts.UNTIL))
    return app


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_the_catalogue_lists_every_panel_and_its_place(client: TestClient) -> None:
    listed = client.get("/api/panels").json()
    assert set(listed["panels"]) == {panel.name for panel in all_panels()}
    places = [place["panel"] for place in listed["boards"][0]["panels"]]
    assert set(places) == set(listed["panels"])
    assert listed["dimensions"] == ["service", "endpoint", "model", "tenant"]


@pytest.mark.parametrize("name", [panel.name for panel in all_panels()])
def test_every_panel_answers_as_columns_of_equal_length(client: TestClient, name: str) -> None:
    answer = client.get(f"/api/panels/{name}").json()
    assert len({len(column) for column in answer["columns"].values()}) == 1
    assert answer["until"] == int(facts.UNTIL.timestamp() * 1000)
    assert answer["until"] - answer["since"] == 7 * 86_400_000
    assert answer["step_seconds"] == 3600


def test_money_is_decimal_text_and_times_are_milliseconds(client: TestClient) -> None:
    answer = client.get("/api/panels/spend_by_endpoint").json()
    rows = facts.cost_rows(facts.HOURS).filter(pl.col("hour") >= facts.UNTIL - timedelta(days=7))
    known = [value for value in answer["columns"]["value"] if value is not None]
    assert sum(map(Decimal, known)) == sum(rows["cost_usd"].to_list(), Decimal())
    assert answer["columns"]["time"][0] == answer["since"]


def test_a_stat_brings_the_value_of_the_week_before(client: TestClient) -> None:
    answer = client.get("/api/panels/requests", params={"since": "7d"}).json()
    start, middle = facts.UNTIL - timedelta(days=14), facts.UNTIL - timedelta(days=7)
    rows = facts.cost_rows(facts.HOURS).filter((pl.col("hour") >= start) & (pl.col("hour") < middle))
    assert answer["compared"] == {
        "hours": 7 * 24,
        "value": answer["columns"]["value"],
        "before": [rows["requests"].sum()],
    }


def test_filters_may_be_repeated(client: TestClient) -> None:
    def requests(endpoints: list[str]) -> int:
        return client.get("/api/panels/requests", params={"endpoint": endpoints}).json()["columns"]["value"][0]

    assert requests(["/v1/chat", "/v1/search"]) == requests(["/v1/chat"]) + requests(["/v1/search"])


def test_values_to_filter_by_are_those_of_the_range(client: TestClient) -> None:
    assert client.get("/api/filters").json()["values"]["service"] == ["gateway", "batch"]
    none = client.get("/api/filters", params={"since": "2020-01-01", "until": "2020-02-01"})
    assert none.json()["values"]["tenant"] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "soon"}, "got 'soon'"),
        ({"since": "7d", "until": "8d"}, "expected since before until"),
        ({"since": "0001-01-01"}, "at most 3660 days"),
        ({"since": "99999w"}, "got '99999w'"),
        ({"since": "7d; DROP TABLE calls"}, "expected a time"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_in_words(client: TestClient, query: dict[str, str], said: str) -> None:
    answer = client.get("/api/panels/spend", params=query)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_an_unknown_panel_is_404(client: TestClient) -> None:
    assert client.get("/api/panels/nonsense").status_code == 404


@pytest.mark.parametrize(
    ("since", "step_seconds"), [("24h", 3600), ("7d", 3600), ("30d", 3 * 3600), ("90d", 12 * 3600), ("52w", 7 * 86_400)]
)
def test_a_longer_range_takes_longer_steps(since: str, step_seconds: int) -> None:
    assert Range.parse(since, "", facts.UNTIL).step_seconds == step_seconds


class Links(HTMLParser):
    """Every address that the page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found |= {str(given[name]) for name in ("src", "href") if given.get(name)}
        self.inline += (tag == "script" and "src" not in given) + (tag == "style") + ("style" in given)


def test_the_page_loads_only_its_own_files_and_nothing_inline(client: TestClient) -> None:
    links = Links()
    links.feed(client.get("/").text)
    assert links.inline == 0
    for address in links.found - {"#board"}:
        assert address.startswith("static/")
        assert client.get(f"/{address}").status_code == 200


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_of_the_page_loads_anything_from_elsewhere(client: TestClient, name: str) -> None:
    answer = client.get(f"/static/{name}")
    assert answer.headers["content-type"].startswith(FILES[name])
    remote = re.findall(r"(?:url\(|import |from |fetch\(|src=|href=)\s*[\"']?(?:https?:)?//", answer.text)
    assert remote == []


def test_every_file_of_the_page_is_served_and_no_other(client: TestClient) -> None:
    folder = files("dashboards").joinpath("page")
    named = {entry.name for entry in folder.iterdir() if entry.name.endswith((".js", ".css", ".svg"))}
    assert named == {name for name in FILES if "/" not in name}
    for outside in ("../__init__.py", "__init__.py", "..%2F..%2Fpyproject.toml"):
        assert client.get(f"/static/{outside}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/panels", "/api/panels/incidents"])
def test_every_answer_forbids_scripts_from_elsewhere(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_no_script_of_the_page_makes_markup_from_text() -> None:
    folder = files("dashboards").joinpath("page")
    for name in (name for name in FILES if name.endswith(".js") and "/" not in name):
        text = folder.joinpath(name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), name


def open_in_chromium(url: str, folder: Path) -> tuple[str, str]:
    """The document after its scripts ran, and what the console said."""
    assert CHROMIUM
    command = [CHROMIUM, *CHROMIUM_FLAGS, f"--user-data-dir={folder}", url]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"DISPLAY": ":0"}
    )
    said = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    return ran.stdout, "\n".join(said)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_draws_every_panel_without_a_console_message(url: str, tmp_path: Path) -> None:
    page, console = open_in_chromium(f"{url}/?since=24h&endpoint=/v1/chat", tmp_path)
    assert console == ""
    for panel in all_panels():
        assert f'id="panel-{panel.name}"' in page
    assert page.count('class="uplot') == sum(panel.kind == "timeseries" for panel in all_panels())
    assert "Loading" not in page
    assert "No answer" not in page
    assert "Endpoint: /v1/chat" in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_shows_the_exact_spend_and_hostile_names_as_text(url: str, tmp_path: Path, client: TestClient) -> None:
    page, _ = open_in_chromium(f"{url}/", tmp_path)
    exact = client.get("/api/panels/spend").json()["columns"]["value"][0].rstrip("0")
    assert f"exactly ${exact}" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_keeps_hidden_series_hidden_and_sums_up_only_what_adds_up(
    app: FastAPI, url: str, tmp_path: Path
) -> None:
    app.mount("/probe", StaticFiles(directory=Path(__file__).parent / "probe"))
    page, console = open_in_chromium(f"{url}/probe/index.html", tmp_path)
    assert console == ""
    assert "midnight is Jan 1, 00:00<br>" in page
    for name, titles in (("share", "Series Last"), ("rate", "Series Last Mean"), ("dollars", "Series Last Total")):
        assert f"{name} legend: {titles}<br>" in page
        assert f"{name} after a refresh: shown false, pressed false<br>" in page
    assert "dollars last column: $5.00 ≥\u202f$1.00 \u2013<br>" in page


def test_a_week_of_answers_comes_within_a_second_each(client: TestClient) -> None:
    client.get("/api/filters")
    started = time.perf_counter()
    sizes = [len(client.get(f"/api/panels/{panel.name}").content) for panel in all_panels()]
    assert time.perf_counter() - started < len(sizes)
    assert max(sizes) < 100_000
