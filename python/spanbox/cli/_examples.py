"""What `spanbox COMMAND --help` ends with: examples of each command, as a shell takes them."""

from __future__ import annotations

import typer

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("spanbox demo", "spanbox demo --requests 200 --store demo"),
    "ls": (
        "spanbox ls",
        "spanbox ls --since 24h --filter 'status == error'",
        "spanbox ls --sessions",
        "spanbox ls --session s-4711",
    ),
    "show": ("spanbox show 7f3a", "spanbox show 7f3a --text", "spanbox show 7f3a --json"),
    "top": ("spanbox top", "spanbox top --window 1h --filter 'tenant == \"acme\"'", "spanbox top --once"),
    "ui": ("spanbox ui", "spanbox ui --read-only --no-browser --port 8000"),
    "check": ("spanbox check", "spanbox check --since 24h --vs 7d --filter 'tenant == \"acme\"'"),
    "report": (
        "spanbox report --since 24h",
        "spanbox report --trace 7f3a --out trace.html",
        "spanbox report 'tenant == \"acme\"' --since 7d --title 'Acme, last week'",
    ),
    "score": (
        "spanbox score 7f3a helpful true",
        "spanbox score 7f3a/1c40 correct 0.5 --source judge --explanation why",
    ),
    "grep": ("spanbox grep 'refund policy'", "spanbox grep -E 'order [0-9]+' --since 7d --filter 'kind == tool'"),
    "stats": ("spanbox stats", "spanbox stats --since 24h --filter 'feature == \"chat\"'"),
    "cost": (
        "spanbox cost --since 30d",
        "spanbox cost --by tenant --every 1d",
        "spanbox cost --project",
        "spanbox cost --by tenant --out costs.csv",
    ),
    "budget": (
        "spanbox budget",
        "spanbox budget tenants --usd 500 --per month --by tenant",
        "spanbox budget chat --usd 20 --per day --filter 'feature == \"chat\"'",
        "spanbox budget chat --remove",
    ),
    "reprice": ("spanbox reprice --since 30d --prices contract.json --dry-run",),
    "reparse": ("spanbox reparse 'provider == \"openai\"' --dry-run",),
    "reconcile": ("spanbox reconcile bill.csv --since 2026-11-01 --until 2026-12-01",),
    "runaways": ("spanbox runaways --since 24h",),
    "tail": ("spanbox tail -n 50", "spanbox tail -f --filter 'status == error'"),
    "sql": (
        "spanbox sql 'select model, count(*) from spans group by 1'",
        "spanbox sql 'select name, sum(cost_usd) from spans group by 1' --since 30d",
    ),
    "export": ("spanbox export spans.parquet --since 7d",),
    "erase": ("spanbox erase 'user_id == \"u-4711\"' --secure",),
    "backup": ("spanbox backup copy-of-the-store",),
    "redact": ("spanbox redact 'write to ann@example.com'", "spanbox redact --secrets < notes.txt"),
    "audit": ("spanbox audit --canary values.txt",),
    "doctor": ("spanbox doctor", "spanbox doctor --store other/.spanbox"),
    "bench": ("spanbox bench", "spanbox bench --path other-disk --json"),
    "import": ("spanbox import runs.jsonl", "spanbox import *.parquet --skip-bad --store imported"),
    "serve": ("spanbox serve --otlp", "spanbox serve --otlp --port 0 --token-file token"),
    "send": (
        "spanbox send --to http://127.0.0.1:4318/v1/traces",
        "spanbox send --config sinks.toml --every 15s",
    ),
    "metrics": ("spanbox metrics", "spanbox metrics --textfile spanbox.prom --every 15s"),
}


def add_examples(app: typer.Typer) -> None:
    """Gives each command its name and its examples."""
    for command in app.registered_commands:
        command.name = command.name or (command.callback.__name__ if command.callback else "")
        lines = EXAMPLES.get(command.name, ())
        if lines:
            command.epilog = "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])
