"""instrument(): the instrumentors that are installed, switched on against our TracerProvider.

An instrumentor is found by its entry point. Of several for one client the best is taken: OpenTelemetry's own for GenAI,
then OpenInference, then OpenLLMetry. It is loaded when its client is imported: instrument() costs a look at what is
installed, and nothing for clients that are never used. What no instrumentor records is recorded where it goes over
httpx (spanbox.integrations.httpx).

Thread rule: instrument() and uninstrument() from one thread at a time.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any

from spanbox._core import __version__
from spanbox._imports import when_imported

_GROUP = "opentelemetry_instrumentor"
_FAMILIES = ("OpenTelemetry GenAI", "OpenInference", "OpenLLMetry", "other")  # in order of preference
_OTHER = len(_FAMILIES) - 1
# Packages that are imported under another name than theirs.
_MODULES = {
    "boto3": "botocore", "google-genai": "google.genai", "google-generativeai": "google.generativeai",
    "google-cloud-aiplatform": "vertexai", "llama-index-core": "llama_index.core", "llama-index": "llama_index",
    "google-adk": "google.adk", "openai-agents": "agents", "haystack-ai": "haystack", "strands-agents": "strands",
    "ibm-watsonx-ai": "ibm_watsonx_ai", "pinecone-client": "pinecone", "autogen-agentchat": "autogen_agentchat",
}  # fmt: skip
# What tells instrumentors to keep messages, or not to.
_CONTENT = {
    True: {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"},
    False: {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "NO_CONTENT",
        "OPENINFERENCE_HIDE_INPUTS": "true",
        "OPENINFERENCE_HIDE_OUTPUTS": "true",
        "TRACELOOP_TRACE_CONTENT": "false",
    },
}
ANY_HOST = "any-host"  # what stands for model calls over httpx, in the report and in allow= and block=
# What brings the calls of a client that is installed without its instrumentor, and those that any-host has, too.
_OVER_HTTPX = {
    "openai": "pip install opentelemetry-instrumentation-genai-openai",
    "anthropic": "pip install opentelemetry-instrumentation-genai-anthropic",
    "google.genai": "pip install opentelemetry-instrumentation-google-genai",
    "mistralai": "pip install openinference-instrumentation-mistralai",
    "cohere": "pip install opentelemetry-instrumentation-cohere",
    "groq": "pip install openinference-instrumentation-groq",
    "ollama": "pip install openinference-instrumentation-ollama",
    "together": "pip install openinference-instrumentation-together",
}
_ADVICE = {
    "botocore": "pip install openinference-instrumentation-bedrock",
    "litellm": "spanbox.integrations.litellm, or pip install openinference-instrumentation-litellm",
    "langchain_core": "spanbox.integrations.langchain.install()",
    "llama_index.core": "pip install opentelemetry-instrumentation-genai-llama-index",
    "agents": "pip install opentelemetry-instrumentation-genai-openai-agents",
    "pydantic_ai": "pip install openinference-instrumentation-pydantic-ai",
    "dspy": "pip install opentelemetry-instrumentation-genai-dspy",
    "crewai": "pip install openinference-instrumentation-crewai",
    "smolagents": "pip install opentelemetry-instrumentation-genai-smolagents",
    "mcp": "pip install openinference-instrumentation-mcp",
    "haystack": "pip install openinference-instrumentation-haystack",
    "chromadb": "pip install opentelemetry-instrumentation-chromadb",
    "qdrant_client": "pip install opentelemetry-instrumentation-qdrant",
    "pinecone": "pip install opentelemetry-instrumentation-pinecone",
    "weaviate": "pip install opentelemetry-instrumentation-weaviate",
    "transformers": "pip install opentelemetry-instrumentation-transformers",
}  # fmt: skip
_KEPT = ("span_only", "span_and_event", "true", "1")  # values of the variable that keeps content on spans
_log = logging.getLogger("spanbox")
_lock = threading.Lock()


class Instrumented(dict[str, str]):
    """What instrument() gives: the clients that are recorded from now on, each with what records it.

    advice: clients that are installed and are not recorded, each with what to do for it.
    """

    def __init__(self, recorded: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(recorded)
        self.advice: dict[str, str] = {}

    def __repr__(self) -> str:
        others = f"; not {', '.join(self.advice)}: print() tells why" if self.advice else ""
        return f"<Instrumented {', '.join(self) or 'nothing'}{others}>"

    def __str__(self) -> str:
        lines = [*self.items(), *((name, f"not recorded: {what}") for name, what in self.advice.items())]
        if not lines:
            return "no client library is installed that spanbox knows how to record"
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in lines)


@dataclass(slots=True)
class _Found:
    """An instrumentor that is installed. `packages`: those it instruments, as far as its package says."""

    entry: EntryPoint
    name: str
    distribution: str
    family: int
    packages: frozenset[str]
    instrumentor: Any = None
    wanted: bool = field(default=False)

    @property
    def label(self) -> str:
        return f"{self.distribution} {self.entry.dist.version if self.entry.dist else ''}".strip()

    def is_called(self, names: frozenset[str]) -> bool:
        return bool(names & {_canonical(self.name), _canonical(self.distribution)})

    def covers(self, other: _Found) -> bool:
        return self.name == other.name or bool(self.packages & other.packages)


_on: list[_Found] = []
_variables: dict[str, str | None] = {}  # that were set here, with what they were before


def instrument(
    *,
    allow: Iterable[str] | None = None,
    block: Iterable[str] = (),
    capture_content: bool | None = None,
) -> Instrumented:
    """Record the calls of every client library that an installed instrumentor knows, as spans of this process.

        print(spanbox.instrument())      # openai    opentelemetry-instrumentation-genai-openai 1.3b0
        spanbox.instrument(allow=["openai", "httpx"])

    Gives what is on by now: the client's name, and the instrumentor. It is switched on when its client is imported.
    Of two instrumentors for one client one is taken; one that the program has switched on itself is left alone.
    "any-host": model calls over httpx that none of them records, whatever the client and the host.

    allow: only these, by the client's name or the instrumentor's package; also some that are not for language models,
    which are off otherwise. ValueError when one is not installed. block: not these.
    capture_content: whether prompts and answers are kept. None: as the environment says
    (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT), and otherwise they are. What is kept goes through redaction
    and limits as everything does.
    """
    try:
        import spanbox.otel  # noqa: F401  (what the instrumentors will need)
    except ModuleNotFoundError as error:
        raise ImportError(f"instrument() needs {error.name}: pip install 'spanbox[otel]'", name=error.name) from error
    if isinstance(allow, str) or isinstance(block, str):
        raise TypeError("allow and block are lists of names, such as ['openai']")
    found = sorted(_installed(), key=lambda each: (each.family, each.distribution))
    allowed = None if allow is None else frozenset(map(_canonical, allow))
    blocked = frozenset(map(_canonical, block))
    for name in (allowed or frozenset()) - {ANY_HOST}:
        if not any(each.is_called(frozenset((name,))) for each in found):
            names = ", ".join(sorted({each.name for each in found})) or "none"
            raise ValueError(f"no instrumentor for {name!r} is installed; installed are: {names}")
    with _lock:
        _set_content(capture_content)
        for each in found:
            if each.is_called(blocked) or any(chosen.covers(each) for chosen in _on):
                continue
            if each.family != _OTHER if allowed is None else each.is_called(allowed):
                _switch_on(each)
        over_httpx = ANY_HOST not in blocked and (allowed is None or ANY_HOST in allowed) and _record_httpx()
        report = Instrumented({each.name: each.label for each in _on})
        if over_httpx:
            report[ANY_HOST] = f"spanbox {__version__}: model calls over httpx that nothing above records"
        if allowed is None:
            report.advice = _advice(found, blocked, over_httpx)
        return report


def uninstrument() -> None:
    """Switch off again what instrument() has switched on."""
    with _lock:
        while _on:
            each = _on.pop()
            each.wanted = False
            if each.instrumentor is not None:
                _attempt(each, each.instrumentor.uninstrument)
        if "spanbox.integrations.httpx" in sys.modules:
            sys.modules["spanbox.integrations.httpx"].uninstall()
        for name, before in _variables.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        _variables.clear()


def _record_httpx() -> bool:
    """Whether httpx is there, whose model calls are recorded from now on."""
    from spanbox.integrations import httpx

    content = os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").lower() in _KEPT
    httpx.install(capture_content=content, leave=_recorded_modules)
    return any(map(httpx.is_installed, httpx.MODULES))


def _recorded_modules() -> Iterator[str]:
    return (_module(package) for each in _on for package in each.packages)


def _advice(found: Iterable[_Found], blocked: frozenset[str], over_httpx: bool) -> dict[str, str]:
    """What to do for clients that are installed, and for which nothing is."""
    known = {_module(package) for each in found for package in each.packages} | {each.name for each in found}
    return {
        module: advice
        for module, advice in (_ADVICE if over_httpx else _OVER_HTTPX | _ADVICE).items()
        if module not in known and _canonical(module) not in blocked and _is_installed(module)
    }


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> Iterator[_Found]:
    for entry in entry_points(group=_GROUP):
        requires = (entry.dist.requires if entry.dist is not None else None) or []
        packages = frozenset(_package(each) for each in requires if "instruments" in each.partition(";")[2])
        if not packages and _is_installed(_module(entry.name)):  # its package does not say: OpenInference's for LiteLLM
            packages = frozenset((_canonical(entry.name),))
        distribution = entry.dist.name if entry.dist is not None else entry.module
        yield _Found(entry, entry.name, distribution, _family(entry, requires), packages)


def _module(package: str) -> str:
    return _MODULES.get(package, package.replace("-", "_"))


def _package(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return _canonical(match[0]) if match else requirement


def _family(entry: EntryPoint, requires: Iterable[str]) -> int:
    if entry.module.startswith("opentelemetry.instrumentation.genai."):
        return 0
    if entry.module.startswith("openinference."):
        return 1
    is_traceloop = any(_package(each) == "opentelemetry-semantic-conventions-ai" for each in requires)
    return 2 if is_traceloop else _OTHER


def _switch_on(each: _Found) -> None:
    """Now, or when its client is imported; not at all when the client is not installed."""
    modules = [_module(name) for name in sorted(each.packages)]
    installed = [module for module in modules if _is_installed(module)]
    if modules and not installed:
        return
    each.wanted = True
    _on.append(each)
    if not installed:  # nobody says what it is for
        _load(each)
    for module in installed:

        def act(_module: ModuleType) -> None:
            _load(each)

        when_imported(module, act)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _load(each: _Found) -> None:
    if not each.wanted or each.instrumentor is not None:
        return

    def load() -> None:
        from spanbox.otel import TracerProvider

        instrumentor = each.entry.load()()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(tracer_provider=TracerProvider(), raise_exception_on_conflict=True)
            each.instrumentor = instrumentor

    _attempt(each, load)


def _attempt(each: _Found, act: Any) -> None:
    try:
        act()
    except Exception as error:  # the program goes on without these spans
        if each in _on:
            _on.remove(each)
        _log.warning("spanbox: %s cannot be used: %s: %s", each.label, type(error).__name__, error)


def _set_content(capture: bool | None) -> None:
    for name, value in _CONTENT[capture is not False].items():
        if capture is None and name in os.environ:
            continue
        _variables.setdefault(name, os.environ.get(name))
        os.environ[name] = value
