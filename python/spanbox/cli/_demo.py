"""`spanbox demo`: runs examples/support_agent.py, then asks the store what happened."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
import time
from pathlib import Path
from types import ModuleType

from spanbox import _core
from spanbox._box import Box
from spanbox._box import open as open_box
from spanbox._paths import FOLDER
from spanbox._render import MISSING, clean, duration_column, fit, format_cost, format_duration, format_share, plural
from spanbox._report_figures import by_kind, by_model
from spanbox._spans import Spans
from spanbox.cli import _summaries
from spanbox.cli._output import Output

_SCALE = 0.4  # of the delays real models have: the demo is over in seconds
_THREADS = 8
_FLUSH_S = 10.0
_COLUMNS = 80


def run(out: Output, path: Path, *, requests: int) -> None:
    """Serves the customers, stores the traces at `path`, prints the summary."""
    agent, server = _example("support_agent"), _example("loopback_llm")
    named = os.environ.get("OPENAI_BASE_URL")
    models = os.environ.get("SUPPORT_AGENT_MODELS")
    where = f"models at {clean(named)}" if named else f"simulated models, {_SCALE:g} × real delays"
    out.line(f"{plural(requests, 'customer')} ask a support agent ({where}) …", "dim")
    _core.configure(str(path), "wait", 64 << 20)
    begin_ns = time.time_ns()
    with contextlib.nullcontext(named) if named else server.serve(scale=_SCALE) as base_url:
        answered = agent.run(
            base_url=base_url, requests=requests, threads=_THREADS, models=models.split(",") if models else None
        )
    took_ns = time.time_ns() - begin_ns
    stored = _core.flush(_FLUSH_S)
    _summarise(out, open_box(path), begin_ns, f"{answered} of {requests} answered in {format_duration(took_ns)}")
    health = _core.health()
    if not stored or health["dropped_spans"]:
        raise _core.StoreError(
            f"{plural(health['dropped_spans'], 'span')} dropped, {health['waiting_bytes']:,} bytes not stored: "
            f"{health['last_error'] or 'see spanbox doctor'}"
        )


def _example(name: str) -> ModuleType:
    """An example of the installed package, or of the source tree it runs from."""
    package = Path(__file__).parents[1]
    for folder in (package / "examples", package.parents[1] / "examples"):
        if (folder / f"{name}.py").is_file():
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            if spec is None or spec.loader is None:
                break
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look their module up
            spec.loader.exec_module(module)
            return module
    raise _core.NotFoundError(f"the example {name}.py is not where the package was installed: {package / 'examples'}")


def _summarise(out: Output, box: Box, begin_ns: int, headline: str) -> None:
    spans = box.spans(since=begin_ns)
    roots = box.spans("kind == agent and parent_id == none", since=begin_ns)
    slowest = next(iter(roots.columns("trace_id").order_by("duration_ns", descending=True).limit(1)), None)
    if slowest is None:
        raise _core.StoreError("nothing was recorded")
    out.line()
    out.title(f"{headline}: {plural(spans.count(), 'span')} in {_short(box.path)}")
    out.line()
    out.line("Slowest trace", "bold")
    out.tree(box.trace(slowest["trace_id"]).lines(width=min(out.width, _COLUMNS)))
    out.line()
    out.line("Time to first token and cost, by model", "bold")
    cost = _print_models(out, box, begin_ns)
    out.line()
    out.line("Failures, by kind", "bold")
    _print_failures(out, box, begin_ns)
    out.line()
    count = roots.count()
    if cost is not None:
        out.line(f"{format_cost(cost / count * 1000)} per 1,000 requests (list prices of genai-prices)")
    else:
        out.line("Costs are not known: pip install 'spanbox[cost]' adds public list prices.", "dim")
    out.line()
    _print_next(out, box, slowest["trace_id"], begin_ns)


def _print_next(out: Output, box: Box, trace_id: str, begin_ns: int) -> None:
    """Commands that work as they are printed."""
    spanbox, store = _program(), _store_option(box.path)
    slowest = box.shortest_id(trace_id)
    search = ("grep 'did not answer'", "search every input, output and error")
    if not box.grep("did not answer", since=begin_ns, limit=1):
        search = ("stats", "figures by model and kind")
    commands = [
        (f"{spanbox} {what}{store}", meaning)
        for what, meaning in (
            ("ls", "recent traces"),
            (f"show {slowest} --text", "what the slowest one said"),
            search,
            ("ui", "all of it in a browser"),
        )
    ]
    width = max(len(command) for command, _ in commands)
    fits = all(width + 4 + len(meaning) <= _COLUMNS for _, meaning in commands)
    out.line("Try next", "bold")
    for command, meaning in commands:
        if fits:
            out.line(f"  {command:<{width}}  {meaning}")
        else:
            out.line(f"  # {meaning}", "dim")
            out.line(f"  {command}")


def _program() -> str:
    """How a shell starts this program: by its name, or by its path when its environment is not active."""
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return "spanbox"
    return shlex.quote(_short(Path(sys.prefix) / "bin" / "spanbox"))


def _print_models(out: Output, box: Box, begin_ns: int) -> float | None:
    """Prints the figures of each model; what all of it cost, None when that is not known."""
    rows: list[list[str]] = []
    figures = by_model(box, "kind == llm", begin_ns)
    columns = [duration_column([row[key] for row in figures]) for key in ("ttft_p50", "ttft_p99", "tpot_p50")]
    for at, row in enumerate(figures):
        times = [column[at] for column in columns]
        cost = format_cost(None if row["cost_usd"] is None else row["cost_usd"] / row["calls"] * 1000)
        rows.append([clean(row["model"] or MISSING), f"{row['calls']:,}", *times, cost, format_share(row["failed"])])
    header = ["model", "calls", "p50 ttft", "p99 ttft", "per token", "$/1k calls", "failed"]
    out.table(header, rows, right=set(range(1, len(header))), cut={0})
    costs = [row["cost_usd"] for row in figures if row["cost_usd"] is not None]
    return sum(costs) if costs else None


def _print_failures(out: Output, box: Box, begin_ns: int) -> None:
    _summaries.print_kinds(out, by_kind(box, "", begin_ns))
    failed = box.spans("status == error", since=begin_ns)
    if worst := _most_frequent_error(failed):
        out.line(fit(f"Most frequent: {worst}", _COLUMNS))
    refused = box.spans('finish_reason == "content_filter"', since=begin_ns).count()
    if refused:
        out.line(f"Refused by a model (finish_reason content_filter): {refused}")


def _most_frequent_error(failed: Spans) -> str:
    errors = sorted(failed.by("error_type", "kind").agg(n="count()"), key=lambda row: -row["n"])
    return ", ".join(f"{clean(row['error_type'] or 'error')} in {row['kind']} ({row['n']})" for row in errors[:2])


def _store_option(path: Path) -> str:
    """The option later commands need to find this store; nothing when they find it anyway."""
    return "" if path == Path.cwd() / FOLDER else f" --store {shlex.quote(_short(path))}"


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
