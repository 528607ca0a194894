"""What takes the place of personal data, in spans and in spanbox.redact()."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import spanbox

KEY = "a key of this test's, 32 bytes.."
TEXT = "Ann (ann@example.com, +46 157 548 890) paid with 4990 6958 4830 4011"


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SPANBOX_REDACT_KEY", raising=False)
    yield
    spanbox.configure(redact="secrets")


def stored(redact: Any, text: str = TEXT, key: Any = KEY) -> str:
    spanbox.configure(redact=redact, redact_key=key)
    return spanbox.redact(text).text


def test_secrets_alone_are_looked_for_at_first() -> None:
    assert spanbox.redact(TEXT) == (TEXT, ())
    assert spanbox.redact("key ghp_" + "a1" * 18).text == "key [redacted:github_token]"


def test_redact_tells_what_was_found_where() -> None:
    spanbox.configure(redact="pii")
    text, found = spanbox.redact("für ann@example.com – ghp_" + "a1" * 18)
    assert text == "für [redacted:email_address] – [redacted:github_token]"
    assert found == (("email_address", 4, 19), ("github_token", 22, 62))
    spanbox.configure(redact="off")
    assert spanbox.redact(TEXT).found == ()


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("replace", "[redacted:credit_card]"),
        ("replace:<card>", "<card>"),
        ("redact", ""),
        ("mask", "**** **** **** 4011"),
        ("mask:0", "**** **** **** ****"),
        ("keep", "4990 6958 4830 4011"),
        (lambda entity, text: f"{entity}/{len(text)}", "credit_card/19"),
    ],
)
def test_operators(operator: Any, expected: str) -> None:
    assert stored({"credit_card": operator}) == TEXT.replace("4990 6958 4830 4011", expected)


def test_entities_stand_above_their_groups_in_any_order() -> None:
    assert (
        stored({"EMAIL_ADDRESS": "redact", "pii": "mask:0"}) == "Ann (, +** *** *** ***) paid with **** **** **** ****"
    )
    assert (
        stored({"pii": "mask:0", "email_address": "redact"}) == "Ann (, +** *** *** ***) paid with **** **** **** ****"
    )


def test_secrets_are_looked_for_unless_they_are_kept() -> None:
    key = "ghp_" + "a1" * 18
    assert stored({"email_address": "hash"}, key) == "[redacted:github_token]"
    assert stored({"github_token": "mask"}, key) == "***_" + "*" * 32 + "a1a1"
    assert stored({"secrets": "keep", "pii": "replace"}, key) == key


def test_hash_is_the_same_for_a_value_however_it_is_written() -> None:
    one = stored({"credit_card": "hash"}, "4990 6958 4830 4011")
    assert re.fullmatch(r"\[credit_card:[0-9a-f]{16}\]", one)
    assert stored({"credit_card": "hash"}, "4990-6958-4830-4011") == one
    assert stored({"credit_card": "hash"}, "4990-6958-4830-4011", KEY[::-1]) != one


def test_surrogate_has_the_form_of_the_value_and_is_consistent() -> None:
    one = stored({"pii": "surrogate"})
    match = re.fullmatch(
        r"Ann \([a-z]{3}@example\.com, \+\d\d \d{3} \d{3} \d{3}\) paid with \d{4} \d{4} \d{4} \d{4}", one
    )
    assert match
    assert one != TEXT
    assert stored({"pii": "surrogate"}) == one
    assert stored({"pii": "surrogate"}, key=KEY[::-1]) != one


def test_surrogates_are_consistent_across_the_spans_of_a_trace(recorded: Any) -> None:
    spanbox.configure(redact={"email_address": "surrogate"})  # without a key: one of this process

    @spanbox.observe
    def lookup(address: str) -> str:
        return f"found {address}"

    @spanbox.observe
    def ask(question: str) -> str:
        return lookup("ann@example.org")

    ask("who is ann@example.org?")
    inputs = {span["name"].rpartition(".")[2]: span["attributes"] for span in recorded.spans()}
    address = inputs["lookup"]["input"]["address"]
    assert address != "ann@example.org"
    assert inputs["ask"]["input"] == {"question": f"who is {address}?"}
    assert inputs["ask"]["output"] == f"found {address}"


def test_encrypt_turns_back_with_the_key_alone() -> None:
    hidden = stored({"email_address": "encrypt"})
    assert "ann@" not in hidden
    assert spanbox.decrypt(hidden, key=KEY) == TEXT
    with pytest.raises(ValueError, match="another key"):
        spanbox.decrypt(hidden, key=KEY[::-1])


def test_key_comes_from_the_environment_or_a_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    given = stored({"email_address": "hash"})
    assert stored({"email_address": "hash"}, key=lambda: KEY) == given
    monkeypatch.setenv("SPANBOX_REDACT_KEY", KEY)
    spanbox.configure(redact="off", redact_key=lambda: KEY)
    assert stored({"email_address": "hash"}, key=KEY.encode()) == given


def test_operator_that_raises_leaves_nothing_behind(recorded: Any) -> None:
    def broken(entity: str, text: str) -> str:
        raise RuntimeError(text)

    assert stored({"email_address": broken}, "to ann@example.com") == "to [redacted:email_address]"
    spanbox.configure(redact={"email_address": lambda entity, text: 7})  # type: ignore[dict-item, return-value]
    assert spanbox.redact("to ann@example.com").text == "to [redacted:email_address]"


@pytest.mark.parametrize(
    ("redact", "message"),
    [
        ("all", "secrets, pii, off"),
        ({"person": "replace"}, "'person' is no entity"),
        ({"email_address": "shred"}, "replace, replace:<text>"),
        ({"email_address": "mask:x"}, "mask:<n>"),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(redact: Any, message: str) -> None:
    spanbox.configure(redact="pii")
    with pytest.raises(ValueError, match=message):
        spanbox.configure(redact=redact)
    assert "[redacted:email_address]" in spanbox.redact(TEXT).text


@pytest.mark.parametrize("operator", ["hash", "encrypt"])
def test_operators_that_need_a_key_say_so(operator: str) -> None:
    with pytest.raises(ValueError, match="SPANBOX_REDACT_KEY"):
        spanbox.configure(redact={"email_address": operator}, redact_key=lambda: "")
    with pytest.raises(ValueError, match="16 bytes"):
        spanbox.configure(redact={"email_address": operator}, redact_key="short")


def test_personal_data_never_reaches_a_span(recorded: Any) -> None:
    spanbox.configure(redact="pii")

    @spanbox.observe
    def call(phone: str, *more: str, **options: object) -> object:
        return {"ssn": "726019824", "ann@example.com": 1, "long": "x" * 70_000 + " ann@example.com"}

    call("4155551234", "ann@example.com", note="a@b.example", table=[{"passport_number": "912803456"}])
    with pytest.raises(ValueError, match="ann"), spanbox.span("block", user_email="ann@example.com"):
        raise ValueError("no ann@example.com here")
    shown = str(recorded.spans())
    for canary in ("4155551234", "ann@", "a@b", "726019824", "912803456"):
        assert canary not in shown
    content = b"".join(file.read_bytes() for file in recorded.path.rglob("*") if file.is_file())
    assert b"ann@example" not in content
