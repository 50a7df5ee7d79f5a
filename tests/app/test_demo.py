"""The demo, as a newcomer runs it."""

import re

import pytest

from tests.app.serving import pennytrace


@pytest.mark.slow
def test_the_demo_reports_exactly_the_two_planted_incidents_with_their_causes(tmp_path):
    done = pennytrace("demo", "--exit", "--ports", "free", "--data", tmp_path / "demo", cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    spans = int(re.search(r"([\d,]+) spans sent and stored", done.stderr)[1].replace(",", ""))
    assert spans >= 100_000
    messages = done.stdout.partition("prints them instead of sending them):")[2].split("\n\n")[1:]
    told = {re.match(r"\[open\] (\S+):", message)[1]: message for message in messages}
    assert set(told) == {"/summarize", "/agent/step"}
    assert re.search(r"Cause +prompts \d+ % longer .*, since version 2\.4\.1", told["/summarize"])
    assert re.search(r"Cause +prompt-cache hits down from \d+ % to \d % .*, since version 3\.2\.0", told["/agent/step"])
    assert re.search(r"[\d,]+ calls \(1\.\d%\) have no known price", done.stdout)
