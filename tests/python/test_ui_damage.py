"""One damaged segment costs what needs it, not the page: the frame answers, and says what is wrong and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import spanbox
from spanbox.server import Page, Server

sys.path.insert(0, str(Path(__file__).parent))  # for ui_client
from ui_client import HOUR, Client
from ui_store import damaged_copy

END_NS = 1_773_112_320_000_000_000
ASKED = {"from": str(END_NS - 6 * HOUR), "to": str(END_NS)}
PANELS = (
    "/api/findings", "/api/overview", "/api/overview/latency", "/api/overview/cost", "/api/overview/quality",
    "/api/overview/failures", "/api/overview/slow", "/api/traces", "/api/traces/heat", "/api/facets", "/api/sessions",
    "/api/costs",
)  # fmt: skip


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("damaged")
    box = spanbox.open(folder / "whole", create=True)
    for segment in range(6):
        box._store.append(
            [_call(segment * 2_000 + i, END_NS - segment * HOUR - i * 1_000_000_000) for i in range(2_000)]
        )
    with Server(damaged_copy(box, folder / "damaged"), port=0, page=Page()) as server:
        yield Client(server)


def _call(number: int, at_ns: int) -> dict[str, object]:
    return {
        "trace_id": f"{number + 1:032x}", "span_id": f"{number + 1:016x}", "name": "ask", "kind": "llm", "model": "m",
        "start_ns": at_ns, "duration_ns": 900_000_000 + number, "ttft_ns": 400_000_000 + 7 * number, "cost_usd": 0.01,
        "user_id": f"user {number}", "input": f"hello {number}",
    }  # fmt: skip


def test_the_frame_answers_and_what_has_no_answer_says_what_to_do(damaged: Client) -> None:
    failed = {}
    for path in PANELS:
        status, answer = damaged.raw(path, **ASKED)
        if status != 200:
            failed[path] = (status, answer["code"], "spanbox doctor" in answer["message"])
    assert failed, "the damage must be met by something"
    assert set(failed.values()) == {(500, "damaged", True)}
    status = damaged.get("/api/status", **ASKED)
    assert status["store"]["spans"] == 12_000
    assert "model" in {each["name"] for each in status["columns"]}


def test_health_tells_of_damage_that_was_met_before_anybody_checks(damaged: Client) -> None:
    damaged.raw("/api/costs", **ASKED, by="user_id")
    health = damaged.get("/api/health")
    assert (health["strip"]["severity"], health["strip"]["worst"]) == ("error", "a part of the store is damaged")
    assert any("checksum" in each for each in health["problems"])
    assert health["checked_ns"] is None
