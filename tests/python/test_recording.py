"""The recorder as Python sees it: context, tags, flush, health, and what happens when the store cannot be had."""

from __future__ import annotations

import contextvars
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import spanbox
from spanbox import _core


def run_python(code: str, *, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_attributes_set_before_and_inside_are_columns(recorded: Any) -> None:
    with spanbox.span("chat", kind="llm", model="gpt-x", provider="acme") as span:
        span.set(input_tokens=10, output_tokens=5, cost_usd=1, custom_flag=True, nested={"a": [1]})
    attributes = recorded.only_span()["attributes"]
    assert attributes["model"] == "gpt-x"
    assert attributes["cost_usd"] == 1.0
    assert isinstance(attributes["cost_usd"], float)
    assert attributes["custom_flag"] is True
    assert attributes["nested"] == {"a": [1]}


def test_names_of_identity_columns_stay_attributes(recorded: Any) -> None:
    with spanbox.span("real name") as span:
        span.set(name="Ada", kind="robot", trace_id="7")
    stored = recorded.only_span()
    assert stored["name"] == "real name"
    assert stored["attributes"]["attributes.name"] == "Ada"
    assert stored["attributes"]["attributes.trace_id"] == "7"


def test_first_token_gives_ttft_and_tpot(recorded: Any) -> None:
    with spanbox.span("chat", kind="llm") as span:
        span.first_token()
        span.first_token()
        span.set(output_tokens=11)
    stored = recorded.only_span()
    ttft = stored["attributes"]["ttft_ns"]
    assert 0 < ttft <= stored["duration_ns"]
    assert stored["attributes"]["tpot_ns"] == pytest.approx((stored["duration_ns"] - ttft) / 10, abs=1)


def test_tags_reach_every_span_inside_and_only_those(recorded: Any) -> None:
    with spanbox.tags(tenant="acme", user_id="u1"), spanbox.span("a"), spanbox.tags(user_id="u2"), spanbox.span("b"):
        pass
    with spanbox.span("c"):
        pass
    by_name = {span["name"]: span["attributes"] for span in recorded.spans()}
    assert (by_name["a"]["tenant"], by_name["a"]["user_id"]) == ("acme", "u1")
    assert (by_name["b"]["tenant"], by_name["b"]["user_id"]) == ("acme", "u2")
    assert "tenant" not in by_name["c"]


def test_current_span_is_the_innermost(recorded: Any) -> None:
    assert spanbox.current_span() is None
    with spanbox.span("outer") as outer:
        with spanbox.tags(x=1):
            assert spanbox.current_span() is outer
        with spanbox.span("inner") as inner:
            assert spanbox.current_span() is inner
        assert spanbox.current_span() is outer
    assert spanbox.current_span() is None


def test_leaving_in_another_context_harms_nothing(recorded: Any) -> None:
    span = spanbox.span("wanderer")
    contextvars.copy_context().run(span.__enter__)
    with spanbox.span("here") as here:
        span.__exit__(None, None, None)
        assert spanbox.current_span() is here
    assert recorded.tree() == "wanderer [span] ok\nhere [span] ok"


def test_span_is_not_entered_twice(recorded: Any) -> None:
    with spanbox.span("once") as span, pytest.raises(RuntimeError, match="open already"):
        span.__enter__()
    assert len(recorded.spans()) == 1


def test_set_after_the_end_is_ignored(recorded: Any) -> None:
    with spanbox.span("done") as span:
        pass
    span.set(late=1)
    span.output = "late"
    assert set(recorded.only_span()["attributes"]) == set()


def test_running_span_is_visible_before_it_ends(recorded: Any) -> None:
    with spanbox.span("long", kind="agent") as span:
        span.input = {"task": "think"}
        [running] = recorded.spans()
        assert running["status"] == "running"
        assert running["attributes"]["input"] == {"task": "think"}
    assert recorded.only_span()["status"] == "ok"


def test_threads_keep_their_own_trees(recorded: Any) -> None:
    def work(n: int) -> None:
        for _ in range(50):
            with spanbox.span(f"root {n}"), spanbox.span(f"leaf {n}"):
                pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = recorded.spans()
    by_id = {span["span_id"]: span for span in spans}
    assert len(by_id) == 800
    for span in spans:
        if span["name"].startswith("leaf"):
            parent = by_id[span["parent_id"]]
            assert parent["name"] == span["name"].replace("leaf", "root")
            assert parent["trace_id"] == span["trace_id"]


def test_hundred_thousand_spans_all_there_none_twice(recorded: Any, tmp_path: Path) -> None:
    """A second process reads the same store meanwhile, and sees the count only grow."""
    total = 100_000

    @spanbox.observe(name="step", capture_output=False)
    def step(n: int) -> int:
        return n

    reader_code = f"""
        import select, sys, spanbox
        box = spanbox.open({str(recorded.path)!r})
        counts = []
        while not select.select([sys.stdin], [], [], 0)[0]:  # until the writer is done
            counts.append(box.spans('name == "step"').count())
        counts.append(box.spans('name == "step"').count())
        assert counts == sorted(counts), counts
        print(len(counts), counts[-1])
    """
    step(-1)
    assert spanbox.flush(10)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(reader_code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as reader:
        for n in range(total - 1):
            step(n)
        assert spanbox.flush(30)
        out, err = reader.communicate("done", timeout=120)
    assert reader.returncode == 0, err
    assert int(out.split()[1]) == total
    health = spanbox.health()
    assert health["dropped_spans"] == 0
    table = recorded.box.spans('name == "step"').columns("span_id", "input").to_arrow()
    assert len(set(table["span_id"].to_pylist())) == total
    seen = sorted(json.loads(value)["n"] for value in table["input"].to_pylist())
    assert seen == list(range(-1, total - 1))


def test_health_adds_up(recorded: Any) -> None:
    before = spanbox.health()
    for _ in range(10):
        with spanbox.span("x"):
            pass
    assert spanbox.flush()
    after = spanbox.health()
    assert after["recorded_spans"] - before["recorded_spans"] == 10
    assert after["stored_spans"] - before["stored_spans"] == 10
    assert after["dropped_spans"] == before["dropped_spans"]
    assert after["last_error"] == ""


def test_process_records_without_configuration(tmp_path: Path) -> None:
    done = run_python(
        """
        import spanbox
        @spanbox.observe
        def f(x): return x
        f(1)
        """,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    box = spanbox.open(tmp_path / ".spanbox")
    assert box.spans("name == 'f'").count() == 1
    assert (tmp_path / ".spanbox").stat().st_mode & 0o777 == 0o700
    assert all(f.stat().st_mode & 0o077 == 0 for f in (tmp_path / ".spanbox").rglob("*"))


@pytest.mark.parametrize("place", ["file", "under a file"])
def test_store_that_cannot_be_made_never_disturbs_the_program(tmp_path: Path, place: str) -> None:
    (tmp_path / "occupied").write_text("mine")
    target = tmp_path / "occupied" / ("" if place == "file" else "store")
    done = run_python(
        """
        import json, spanbox
        @spanbox.observe
        def f(x): return x + 1
        assert f(1) == 2
        with spanbox.span("s") as s:
            s.set(a=1); s.output = 2
        spanbox.flush(0.1)
        print(json.dumps(spanbox.health()))
        """,
        cwd=tmp_path,
        SPANBOX_DIR=str(target),
    )
    assert done.returncode == 0, done.stderr
    health = json.loads(done.stdout)
    assert health["dropped_spans"] == health["recorded_spans"] == 2
    assert str(tmp_path / "occupied") in health["last_error"]
    assert (tmp_path / "occupied").read_text() == "mine"


def test_configure_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(spanbox.SpanboxError, match="file"):
        spanbox.configure(tmp_path / "file")
    with pytest.raises(ValueError, match="full_ring must be one of"):
        spanbox.configure(tmp_path / "s", full_ring="sometimes")  # type: ignore[arg-type]


def _child_records(n: int) -> None:
    with spanbox.span(f"child {n}"):
        pass


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_processes_record_for_themselves(recorded: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setenv("SPANBOX_DIR", str(recorded.path))
    with spanbox.span("parent"):
        pass
    context = multiprocessing.get_context(method)
    children = [context.Process(target=_child_records, args=(n,)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    names = {span["name"] for span in recorded.reopened().spans()}
    assert names == {"parent", "child 0", "child 1", "child 2"}


def test_import_pulls_in_no_third_party_package(tmp_path: Path) -> None:
    done = run_python(
        """
        import sys
        before = set(sys.modules)
        import spanbox
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(new - set(sys.stdlib_module_names) - {"spanbox"}))
        """,
        cwd=tmp_path,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_core_and_package_tell_one_version() -> None:
    assert spanbox.__version__ == _core.__version__


def test_rings_elsewhere_are_recovered_by_whoever_opens_the_store(tmp_path: Path) -> None:
    store, rings = tmp_path / "store", tmp_path / "rings"
    rings.mkdir()
    code = f"""
        import os, pathlib, signal, spanbox
        spanbox.configure({str(store)!r}, ring_dir={str(rings)!r})
        with spanbox.span("ended"):
            pass
        spanbox.span("open").__enter__()
        assert len(list(pathlib.Path({str(rings)!r}).glob("*/*.ring"))) > 0
        assert not list(pathlib.Path({str(store)!r}).glob("rings/*.ring"))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert died.returncode == -signal.SIGKILL
    spans = spanbox.open(store).spans().columns("name", "status").to_arrow().to_pylist()
    assert {span["name"]: span["status"] for span in spans} == {"ended": "ok", "open": "interrupted"}
    [folder] = rings.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


def test_rings_are_not_put_where_others_may_write(tmp_path: Path) -> None:
    rings = tmp_path / "rings"
    rings.mkdir()
    spanbox.configure(tmp_path / "store", ring_dir=rings)
    [folder] = rings.iterdir()
    folder.chmod(0o777)
    with pytest.raises(spanbox.StoreError, match="not ours alone"):
        spanbox.configure(tmp_path / "store", ring_dir=rings)


def test_configure_keeps_what_it_is_not_told(recorded: Any) -> None:
    spanbox.configure(max_ring_bytes=8 << 20, full_ring="block")
    spanbox.configure(capture_bytes=1000)
    assert spanbox.health()["path"] == str(recorded.path)
    with spanbox.span("a") as span:
        span.output = "x" * 5000
    assert spanbox.flush()
    assert spanbox.health()["ring_bytes"] <= 8 << 20
    spanbox.configure(recorded.path)
    with spanbox.span("b"):
        pass
    assert spanbox.flush()
    assert spanbox.health()["ring_bytes"] <= 8 << 20
    spanbox.configure(max_ring_bytes=64 << 20, full_ring="wait", capture_bytes=256 << 10)


def test_configure_from_within_a_capture_leaves_the_span_whole(recorded: Any, tmp_path: Path) -> None:
    class Odd:
        pass

    def encode(_: Odd) -> str:
        spanbox.configure(tmp_path / "another")
        return "encoded"

    spanbox.register_encoder(Odd, encode)
    try:

        @spanbox.observe(name="call")
        def call(value: Odd) -> int:
            return 1

        assert call(Odd()) == 1
    finally:
        spanbox.register_encoder(Odd, None)
    spanbox.configure(recorded.path)  # lets go of the one that was in use
    [span] = spanbox.open(recorded.path).spans().columns("name", "input").to_arrow().to_pylist()
    assert json.loads(span["input"]) == {"value": "encoded"}


def test_without_a_ring_file_spans_are_recorded_in_memory_and_health_says_so(tmp_path: Path) -> None:
    code = f"""
        import resource, spanbox
        spanbox.configure({str(tmp_path / "store")!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        with spanbox.span("a"):
            pass
        health = spanbox.health()
        assert health["crash_safe"] is False, health
        assert "File too large" in health["last_error"], health
        assert health["dropped_spans"] == 0, health
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert spanbox.flush(10)
        assert spanbox.health()["collector_restarts"] == 0
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    assert spanbox.open(tmp_path / "store").spans('name == "a"').count() == 1
