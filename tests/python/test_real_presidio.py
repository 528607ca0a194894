"""Presidio itself, its recognisers of patterns, which need no model: a stage behind ours, and measured beside them."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spanbox

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from pii import Figures, Found, measure
from real_frameworks import framework

spacy = framework("spacy")
tldextract = framework("tldextract")
analyzer = framework("presidio_analyzer")
engines = framework("presidio_analyzer.nlp_engine")
anonymizer = framework("presidio_anonymizer")
NAME = "Ann Miller"


class Blank(engines.SpacyNlpEngine):  # type: ignore[misc, name-defined]
    """English words, and no model that would know names."""

    def __init__(self) -> None:
        super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
        self.nlp = {"en": spacy.blank("en")}

    def load(self) -> None: ...


@pytest.fixture(scope="module")
def presidio() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        offline = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())  # the list that its package brings
        patch.setattr(tldextract, "extract", offline)
        engine = Blank()
        registry = analyzer.RecognizerRegistry()
        registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
        registry.add_recognizer(analyzer.PatternRecognizer("PERSON", deny_list=[NAME]))
        yield analyzer.AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=["en"])


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    spanbox.configure(redact="secrets")


def test_its_engines_are_a_stage_behind_the_patterns(presidio: Any, recorded: Any) -> None:
    spanbox.configure(redact=("pii", (presidio, anonymizer.AnonymizerEngine())))

    @spanbox.observe
    def answer(question: str) -> dict[str, Any]:
        return {"to": [NAME], "again": question}

    answer(f"is {NAME} at ann@example.com?")
    assert spanbox.flush(60)
    [row] = spanbox.open(recorded.path).spans().columns("input", "output")
    said = "is <PERSON> at [redacted:email_address]?"
    assert json.loads(row["input"]) == {"question": said}
    assert json.loads(row["output"]) == {"to": ["<PERSON>"], "again": said}


@pytest.mark.realdata
def test_ours_find_no_less_than_its_patterns_and_are_no_more_often_wrong(presidio: Any, data: Path) -> None:
    def find(text: str) -> list[Found]:
        found = presidio.analyze(text=text, language="en")
        kept = [
            each
            for each in found  # a domain in an address of mail is no finding of its own: so does its anonymizer
            if not any(other is not each and other.contains(each) and other.score > each.score for other in found)
        ]
        return [(each.entity_type.lower(), each.start, each.end) for each in kept]

    spanbox.configure(redact={"secrets": "keep", "pii": "replace", "url": "replace"})
    path = data / "pii" / "presidio_synth_v2_dev.jsonl.gz"
    ours, theirs = measure(path), measure(path, find)
    print(f"\n{'entity':<16} {'n':>4}   precision     recall         F2")
    for kind, mine in ours.items():
        other: Figures = theirs[kind]
        pairs = "   ".join(f"{a:.3f} {b:.3f}" for a, b in zip(mine[1:], other[1:], strict=True))
        print(f"{kind:<16} {mine.n:>4}   {pairs}")
        assert mine.precision >= other.precision, kind
        assert mine.recall >= other.recall, kind
