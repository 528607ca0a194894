"""Secrets never reach the disk, wherever in a span they stand; ordinary text is left alone."""

from __future__ import annotations

import gzip
import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox


@pytest.fixture(autouse=True)
def default_settings() -> Iterator[None]:
    yield
    spanbox.configure(redact="secrets")


def canary(n: int) -> str:
    letters = random.Random(n).choices(string.ascii_letters + string.digits, k=34)
    return "ghp_Q7" + "".join(letters)


def on_disk(path: Path, needles: list[str]) -> list[str]:
    content = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
    assert content
    return [needle for needle in needles if any(needle.encode() in data for data in content)]


def record_everywhere() -> list[str]:
    """Puts a canary of its own into every place of a span that takes text."""
    secrets = [canary(n) for n in range(20)]
    take = iter(secrets)

    @spanbox.observe
    def call(prompt: str, *more: str, **options: object) -> list[object]:
        current = spanbox.current_span()
        assert current is not None
        current.set(note=f"note {next(take)}", headers={"X-Trace": next(take)}, tags=[next(take)])
        return [{"text": next(take)}, f"line\\n{next(take)}", next(take).encode()]

    @spanbox.observe
    def fail(prompt: str) -> None:
        raise ValueError(f"Incorrect key {prompt}")

    @spanbox.observe
    def fail_with_data(data: dict[str, str]) -> None:
        raise RuntimeError({"request": data})

    with spanbox.tags(session_id=f"s-{next(take)}", about=next(take)):
        call(next(take), next(take), option=next(take), nested={"deep": [{next(take): next(take)}]})
    with pytest.raises(ValueError, match="Incorrect"):
        fail(next(take))
    with pytest.raises(RuntimeError):
        fail_with_data({"url": f"https://api.example.com/?key={next(take)}"})
    with spanbox.span("block", url=f"https://x/?a={next(take)}") as span:
        span.input = "x" * 70_000 + " " + next(take)
        span.output = "y" * 65_500 + next(take) + "z" * 400_000
    return [secret for secret in secrets if secret not in set(take)]


def test_no_field_of_a_span_brings_a_secret_to_the_disk(recorded: Any) -> None:
    secrets = record_everywhere()
    assert len(secrets) >= 18
    assert on_disk(recorded.path, secrets) == []  # in the ring
    assert spanbox.flush(10)
    assert on_disk(recorded.path, secrets) == []  # in the store
    shown = json.dumps(recorded.spans())
    assert [secret for secret in secrets if secret in shown] == []
    assert shown.count("[redacted:github_token]") >= 12


def test_canaries_are_found_when_redaction_is_off(recorded: Any) -> None:
    """The test above can fail: the same canaries reach the disk when nothing is redacted."""
    spanbox.configure(recorded.path, redact="off")
    secrets = record_everywhere()
    shown = json.dumps(recorded.spans())
    assert len([secret for secret in secrets if secret in shown]) >= 12


def test_secret_across_a_cut_is_not_left_in_half(recorded: Any) -> None:
    spanbox.configure(recorded.path, capture_bytes=1000)
    secret = canary(99)
    for filler in range(940, 1010, 3):
        with spanbox.span("cut") as span:
            span.output = "." * filler + secret + "." * 5000
    spanbox.flush()
    spanbox.configure(capture_bytes=256 * 1024)
    assert on_disk(recorded.path, [secret[:16]]) == []
    assert all(secret[4:14] not in str(span["attributes"]["output"]) for span in recorded.spans())


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@pytest.mark.realdata
def test_ordinary_prompts_are_left_alone(recorded: Any, data: Path) -> None:
    """At most one in a thousand of public prompts, answers and agent steps is changed."""
    prompts: list[str] = []
    for pattern in ("evals/*.jsonl.gz", "pii/*.jsonl.gz", "agents/*.jsonl.gz"):
        for file in sorted(data.glob(pattern)):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                for line in lines:
                    prompts.extend(text for text in texts(json.loads(line)) if len(text) > 15)
    assert len(prompts) >= 10_000
    random.Random(5).shuffle(prompts)
    changed = []
    spanbox.configure(capture_nodes=100_000)
    chosen = prompts[:20_000]
    for begin in range(0, len(chosen), 200):
        with spanbox.span("prompts") as span:
            span.output = chosen[begin : begin + 200]
    spanbox.configure(capture_nodes=10_000)
    for span_row in recorded.spans():
        changed += [text for text in texts(span_row["attributes"]["output"]) if "[redacted" in text]
    assert len(changed) <= len(chosen) / 1000, changed[:5]
