"""A function that sees every text before it is stored, behind what _core redacts by pattern: yours, or Presidio's.

The collector takes no GIL: it hands texts to the thread here and waits for them (bindings/text_stage.h). What raises,
or takes longer than the collector waits, is withheld.

Thread rule: use() and now() from any thread; the function runs on this module's thread, or on the one that imports.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from spanbox import _core

_WAIT_MS = 500
_EXIT_S = 5.0
_LANGUAGE = "en"

_log = logging.getLogger("spanbox")
_function: Callable[[str], str] | None = None
_thread: threading.Thread | None = None
_stopped = False


def function_of(stage: Any) -> Callable[[str], str]:
    """The stage as a function; TypeError for what is none."""
    if callable(stage):
        return stage  # type: ignore[no-any-return]
    if isinstance(stage, tuple) and len(stage) == 2 and hasattr(stage[0], "analyze") and hasattr(stage[1], "anonymize"):
        analyzer, anonymizer = stage

        def presidio(text: str) -> str:
            found = analyzer.analyze(text=text, language=_LANGUAGE)
            return str(anonymizer.anonymize(text=text, analyzer_results=found).text) if found else text

        return presidio
    raise TypeError(f"redact: a stage is a function or Presidio's (AnalyzerEngine, AnonymizerEngine), not {stage!r}")


def use(function: Callable[[str], str] | None) -> None:
    """Makes it this process's; None: there is none."""
    global _function
    _function = function
    _core.set_stage(None if function is None else _answer)
    if function is not None:
        _start()


def now(text: str) -> str:
    """What the stage makes of a text."""
    if _function is None:
        return text
    answer = _answer(text, False)
    return "[withheld]" if answer is None else answer


def _start() -> None:
    global _thread
    if _thread is None:
        _before_exit()
        _thread = threading.Thread(target=_work, name="spanbox-redact", daemon=True)
        _thread.start()


@cache
def _before_exit() -> None:
    os.register_at_fork(after_in_child=_forked)
    atexit.register(_finish)  # before the recorder closes


def _finish() -> None:
    """Stores what there is while there is a thread to ask, which must end before the interpreter does."""
    global _stopped
    thread = _thread
    if thread is None:
        return
    if _function is not None:
        _core.flush(_EXIT_S)
    _stopped = True
    _core.stop_stage()
    thread.join(_EXIT_S)


def _forked() -> None:
    global _thread
    if _thread is not None:
        _thread = None
        _core.forget_stage()
        _start()


def _work() -> None:
    while not _stopped:
        asked = _core.stage_next(_WAIT_MS)
        if asked is not None:
            _core.stage_answer(_answer(*asked))


def _answer(text: str, is_json: bool) -> str | None:
    function = _function
    if function is None:
        return None
    try:
        return _of_json(function, text) if is_json else _checked(function(text))
    except Exception as error:  # whatever it is, the text is not stored
        _tell(type(error).__qualname__)
        return None


def _of_json(function: Callable[[str], str], text: str) -> str:
    """Every text in it, and what is written in it."""
    given = json.loads(text)
    staged = _walk(function, given)
    return text if staged == given else json.dumps(staged, ensure_ascii=False, separators=(",", ":"))


def _walk(function: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, str):
        return _checked(function(value))
    if isinstance(value, list):
        return [_walk(function, each) for each in value]
    if isinstance(value, dict):
        return {key: _walk(function, each) for key, each in value.items()}
    return value


def _checked(answer: object) -> str:
    if not isinstance(answer, str):
        raise TypeError("no text")
    return answer


@cache
def _tell(error: str) -> None:
    """Once for each kind, and without a word of the text."""
    _log.warning("the function for redact= raised %s: such texts are withheld", error)
