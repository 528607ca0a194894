"""A real Prometheus scrapes us, and answers what the Grafana dashboard asks."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox._box import Box
from spanbox.server import Server, read_token

ROOT = Path(__file__).parents[2]
PROMETHEUS = shutil.which("prometheus")
DEADLINE_S = 120

needs_prometheus = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is missing: scripts/packages.sh test")


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: object) -> Any:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        rows = self.get("query", query=expression)["result"]
        return [(row["metric"], float(row["value"][1])) for row in rows]


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            if result := condition():
                return result
        except OSError:  # it is starting
            pass
        assert time.monotonic() < deadline, "Prometheus did not get there in time"
        time.sleep(0.1)


@contextmanager
def scraping(folder: Path, server: Server, token: Path, *, native: bool) -> Iterator[Prometheus]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: spanbox\n"
        f"    authorization: {{credentials_file: {token}}}\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]\n"
    )
    features = "exemplar-storage,native-histograms" if native else "exemplar-storage"
    command = [
        str(PROMETHEUS),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--enable-feature={features}",
        "--log.level=error",
    ]
    running = subprocess.Popen(command)
    try:
        yield Prometheus(port)
    finally:
        running.terminate()
        running.wait(30)


def traffic(box: Box, first: int, count: int) -> None:
    """Model calls of half a second and of four, one of ten failed, with scores."""
    now_ns = time.time_ns()
    rows = []
    for n in range(first, first + count):
        long = n % 2 == 0
        rows.append(
            {
                "trace_id": f"{n:032x}",
                "span_id": f"{n:016x}",
                "name": "chat",
                "kind": "llm",
                "model": "gpt-5",
                "status": "error" if n % 10 == 0 else "ok",
                "start_ns": now_ns - 10**10,
                "duration_ns": 4_000_000_000 if long else 500_000_000,
                "ttft_ns": 300_000_000,
                "tpot_ns": 20_000_000,
                "cost_usd": 0.002,
            }
        )
    box._store.append(rows)
    for n in range(first, first + count):
        box.score("helpful", float(n % 3), trace_id=f"{n:032x}", source="judge")


def dashboard() -> dict[str, Any]:
    return json.loads((ROOT / "examples/grafana/spanbox.json").read_text())


def expressions() -> dict[str, list[str]]:
    """Title of a panel, to what it asks, with the variables as they are at first."""
    values = {"__rate_interval": "5m", "model": ".*", "score": ".*", "window": "24h", "budget": "5"}
    fill = re.compile(r"\$(\w+)")
    return {
        panel["title"]: [fill.sub(lambda match: values[match[1]], target["expr"]) for target in panel["targets"]]
        for panel in dashboard()["panels"]
    }


@needs_prometheus
@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_prometheus_gets_what_the_dashboard_shows(tmp_path: Path, native: bool) -> None:
    box = spanbox.open(tmp_path / "store", create=True)
    traffic(box, 1, 100)
    token = tmp_path / "token"
    with (
        Server(box, port=0, token=read_token(token)) as server,
        scraping(tmp_path, server, token, native=native) as prom,
    ):
        spans = 'sum(spanbox_spans_total{kind="llm",model="gpt-5"})'
        assert wait_for(lambda: prom.query(spans)) == [({}, 100)]
        traffic(box, 101, 50)
        wait_for(lambda: prom.query(spans) == [({}, 150)])
        count = "histogram_count(spanbox_duration_seconds)" if native else "spanbox_duration_seconds_count"
        assert [value for _, value in prom.query(count)] == [150]
        assert prom.query("sum(spanbox_errors_total)") == [({}, 15)]
        median = "histogram_quantile(0.25, " + ("" if native else "sum by (le) (")
        median += "spanbox_duration_seconds)" if native else "spanbox_duration_seconds_bucket))"
        assert prom.query(median)[0][1] == pytest.approx(0.5, rel=0.1 if native else 0.45)

        for title, asked in expressions().items():
            for expression in asked:
                rows = wait_for(lambda expression=expression: prom.query(expression))
                assert all(value == value for _, value in rows), f"{title}: {expression} gives NaN"
        (cost, *_), (budget, *_) = (prom.query(each) for each in expressions()["Cost per 1,000 requests, rolling 24 h"])
        assert (cost[1], budget[1]) == (pytest.approx(2.0), 5.0)
        mean, low, high = (prom.query(each)[0][1] for each in expressions()["Quality"])
        assert low < mean < high
        assert prom.query(expressions()["Failure rate by kind"][0]) == [({"kind": "llm"}, pytest.approx(0.1))]

        marks = wait_for(
            lambda: prom.get(
                "query_exemplars",
                query="spanbox_duration_seconds" if native else "spanbox_duration_seconds_bucket",
                start=time.time() - 3600,
                end=time.time() + 3600,
            )
        )
        assert re.fullmatch("[0-9a-f]{32}", marks[0]["exemplars"][0]["labels"]["trace_id"])
        assert float(marks[0]["exemplars"][0]["value"]) == 4.0


def test_the_dashboard_asks_for_metrics_that_there_are(box: Box) -> None:
    traffic(box, 1, 10)
    families = {family.name: family for family in box.metrics().collect()}
    known = {name for family in families.values() for name in (family.sample_name, f"{family.name}_bucket")}
    known |= {name for name, family in families.items() if family.type == "histogram"}
    variables = " ".join(str(each.get("query")) for each in dashboard()["templating"]["list"])
    asked = set(re.findall(r"\bspanbox_\w+", str(expressions()) + variables))
    assert asked
    assert asked - known == set()
    assert len(dashboard()["panels"]) == 6
