"""Variables with which tracers are told to keep no inputs and outputs: spanbox does as the others do.

A variable that hides a part of an input, its images say, hides the input: what is not looked at cannot be taken apart.
"""

from __future__ import annotations

import os

from spanbox import _core

_INPUTS = (
    "LANGSMITH_HIDE_INPUTS",
    "LANGCHAIN_HIDE_INPUTS",
    "OPENINFERENCE_HIDE_INPUTS",
    "OPENINFERENCE_HIDE_INPUT_MESSAGES",
    "OPENINFERENCE_HIDE_INPUT_IMAGES",
    "OPENINFERENCE_HIDE_INPUT_TEXT",
    "OPENINFERENCE_HIDE_LLM_INVOCATION_PARAMETERS",
    "OPENINFERENCE_HIDE_LLM_PROMPTS",
    "OPENINFERENCE_HIDE_PROMPTS",
    "OPENINFERENCE_HIDE_LLM_TOOLS",
)
_OUTPUTS = (
    "LANGSMITH_HIDE_OUTPUTS",
    "LANGCHAIN_HIDE_OUTPUTS",
    "OPENINFERENCE_HIDE_OUTPUTS",
    "OPENINFERENCE_HIDE_OUTPUT_MESSAGES",
    "OPENINFERENCE_HIDE_OUTPUT_TEXT",
    "OPENINFERENCE_HIDE_EMBEDDING_VECTORS",
    "OPENINFERENCE_HIDE_EMBEDDINGS_VECTORS",
)
_CONTENT = ("TRACELOOP_TRACE_CONTENT",)  # hides both when it is false
_NO = ("", "0", "false", "no", "off")


def hidden_by_environment() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables that are set so that inputs are hidden, and those by which outputs are."""
    without = tuple(name for name in _CONTENT if name in os.environ and not _is_on(name))
    return (
        tuple(name for name in _INPUTS if _is_on(name)) + without,
        tuple(name for name in _OUTPUTS if _is_on(name)) + without,
    )


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() not in _NO


def set_hidden(inputs: bool | None, outputs: bool | None) -> None:
    """None: as the environment says."""
    for_inputs, for_outputs = hidden_by_environment()
    _core.set_hidden(
        bool(for_inputs) if inputs is None else inputs,
        bool(for_outputs) if outputs is None else outputs,
    )
