"""The native module: a thin face of the C++ core. Times are nanoseconds since 1970 (UTC) unless a name says otherwise.

Errors: a wrong filter raises FilterError (a ValueError), other wrong arguments ValueError; a missing store, trace or
column NotFoundError (a LookupError); damaged bytes CorruptionError; a full disk StoreFullError; everything else of the
store StoreError. All of them are SpanboxError. Recording (observe, span, tags) never raises on its own account.
"""

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict, final

__version__: str

Kind = Literal[
    "span", "llm", "embedding", "retriever", "reranker", "tool", "agent", "workflow", "chain", "guardrail",
    "evaluator", "prompt", "memory",
]  # fmt: skip

ScoreValue = bool | int | float | str | None  # text is the label
ScoreSource = Literal["rule", "judge", "human", "feedback", "experiment"]

class SpanboxError(Exception): ...
class FilterError(SpanboxError, ValueError): ...
class NotFoundError(SpanboxError, LookupError): ...
class CorruptionError(SpanboxError): ...
class StoreFullError(SpanboxError): ...
class StoreError(SpanboxError): ...

# --- recording -------------------------------------------------------------------------------------------------------

@final
class Span:
    """A span as a context manager; made by spanbox.span(). Starts at `with`, ends when the block is left."""

    def __init__(
        self,
        name: str,
        kind: Kind = "span",
        attributes: dict[str, object] | None = None,
        parent: Handle | Span | str | None = None,
    ) -> None: ...
    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None, /
    ) -> Literal[False]: ...
    def set(self, **attributes: object) -> Span: ...
    def score(
        self,
        name: str,
        value: ScoreValue = None,
        *,
        label: str | None = None,
        explanation: str | None = None,
        source: ScoreSource = "rule",
        evaluator: str | None = None,
        version: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """As spanbox.score(), of this span, also after it has ended."""

    def first_token(self) -> None: ...
    def _ended_at(self, time_ns: int, /) -> None: ...
    def handle(self) -> Handle:
        """This span's place in its trace, for another thread, process or machine."""

    input: object
    output: object
    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    @property
    def name(self) -> str: ...

    # The Span of OpenTelemetry's API; spanbox.otel says to it that it is one. None of these raises.
    def set_attribute(self, key: str, value: Any) -> None: ...
    def set_attributes(self, attributes: Mapping[str, Any]) -> None: ...
    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None: ...
    def add_link(self, context: Any, attributes: Mapping[str, Any] | None = None) -> None: ...
    def update_name(self, name: str) -> None: ...
    def is_recording(self) -> bool: ...
    def set_status(self, status: Any, description: str | None = None) -> None: ...
    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None: ...
    def get_span_context(self) -> Any: ...
    def end(self, end_time: int | None = None) -> None:
        """Ends a span that a Tracer has started; others end with their block."""

@final
class Scope:
    """What Tracer.start_as_current_span() gives: a block, or a decorator."""

    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None, /
    ) -> Any: ...
    def __call__(self, function: Callable[..., Any], /) -> Callable[..., Any]: ...
    def again(self) -> Scope: ...

@final
class Tracer:
    """Starts spans for one instrumentation scope, whose attributes are given; made by spanbox.otel.TracerProvider."""

    def __init__(self, scope: dict[str, object], /) -> None: ...
    def adopt(
        self,
        span_context: Any,
        parent_id: int | None,
        name: str,
        *,
        kind: Any = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Any] | None = None,
        start_time: int | None = None,
        known_kind: str | None = None,
    ) -> Span | None:
        """Records a span that another library has started, under its own ids."""

    def start_span(
        self,
        name: str,
        context: Any = None,
        kind: Any = ...,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Any] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Any: ...
    def start_as_current_span(
        self,
        name: str,
        context: Any = None,
        kind: Any = ...,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Any] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Scope: ...

def otel_attach(context: Any, /) -> object: ...
def otel_detach(token: object, /) -> None: ...
def otel_get_current() -> Any: ...
def set_otel(
    *,
    span_key: str,
    suppress_key: str,
    context_class: type,
    no_context: object,
    span_context: object,
    remote_span: object,
    sampled: int,
    kinds: tuple[object, ...],
    kind_names: tuple[str, ...],
    no_op_tracer: object,
    make_exception_event: Callable[..., object],
    make_link: Callable[..., object],
    explain: Callable[..., object],
    decorate: Callable[..., object],
) -> None: ...

@final
class Tags:
    """Attributes for every span started inside the block, also in functions called from it."""

    def __init__(self, attributes: dict[str, object]) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None, /
    ) -> Literal[False]: ...

def observed(
    fn: Callable[..., Any],
    name: str,
    kind: Kind,
    capture_input: bool,
    capture_output: bool,
    capture_bytes: int,
    parameters: tuple[str, ...],
    returns: int,
    /,
) -> Callable[..., Any]:
    """The traced form of a function; `parameters` are the names of its positional parameters.

    capture_bytes: -1 as configured. returns: 0 its value, 1 a coroutine, 2 a generator, 3 an async generator: see
    set_shells.
    """

def set_shells(
    coroutine: Callable[..., Any], generator: Callable[..., Any], async_generator: Callable[..., Any], /
) -> None:
    """Functions that return an object of their type, whose body does what the Driven they are called with does."""

def current_span() -> Span | None: ...
def score(
    name: str,
    value: ScoreValue = None,
    *,
    label: str | None = None,
    explanation: str | None = None,
    source: ScoreSource = "rule",
    evaluator: str | None = None,
    version: str | None = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    span: Span | Handle | str | None = None,
) -> None:
    """Records what is said of a span: of the current one, of `span`, or of `trace_id` and `span_id`; without `span_id`
    of the whole trace. It never raises for what it is given: what is no score is counted in health() and logged
    once."""

@final
class Handle:
    """A place in a trace, to start spans under from another thread, process or machine.

    Immutable, small, picklable: the ids of a span, and the tags that spans below it get.
    """

    def __init__(self, traceparent: str, tags: bytes = b"", /) -> None: ...
    @staticmethod
    def from_traceparent(traceparent: str, /) -> Handle:
        """The place that a W3C `traceparent` header names. ValueError when it is none."""

    @property
    def traceparent(self) -> str:
        """The value of a W3C `traceparent` header; empty outside of any span."""

    @property
    def trace_id(self) -> str: ...
    @property
    def span_id(self) -> str: ...
    def __reduce__(self) -> tuple[type[Handle], tuple[str, bytes]]: ...

def current_handle() -> Handle | None:
    """The place this code runs in; None outside of any span and tags."""

@final
class Attach:
    """Spans started inside the block are children of `parent`; made by spanbox.attach(). `exact`: tags around the
    block do not count."""

    def __init__(self, parent: Handle | Span | str | None, exact: bool = False, /) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None, /
    ) -> Literal[False]: ...

def carried(fn: Callable[..., Any], /) -> Callable[..., Any]:
    """fn, to be run in the context of this call."""

def carried_if_inside(fn: Any, /) -> Any:
    """carried(fn); fn itself outside of any context, or when propagation is off."""

def outside(fn: Callable[..., Any], /) -> Callable[..., Any]:
    """fn, to be run outside of any context."""

def has_something_to_carry() -> bool: ...
def current_context() -> Handle | Span | None:
    """What the ContextVar holds: the innermost Span or block."""

def context_to_carry() -> Handle | Span | None:
    """current_context(); None when propagation is off."""

def set_context(context: Handle | Span, /) -> None: ...
def set_process_context(handle: Handle, /) -> None:
    """Where code outside of any context is from now on."""

def span_depth() -> int: ...
def set_propagate(on: bool, /) -> None: ...
def set_limit_hook(hook: object, /) -> None: ...  # _limit._Hook, or None
def ask_limits(name: str, attributes: dict[str, Any], calls: list[int], depth: int, /) -> str | None: ...
def set_lender(function: object, /) -> None: ...  # _lend._lend, or None
def set_recording_off(off: bool, /) -> None: ...

SamplingTuple = tuple[float, dict[str, float], str, bool, int, int]  # see spanbox.Sampling

def configure(
    path: str,
    full_ring: Literal["wait", "drop", "block"] | None = None,
    max_ring_bytes: int | None = None,
    ring_dir: str | None = None,
    sampling: SamplingTuple | None = None,
) -> None:
    """Sends this process's spans to the store at `path` from now on. Flushes and closes the recorder in use.

    What is None stays as it is.
    """

def recording_path() -> str | None:
    """The store this process records into; None before the first span."""

def set_capture(bytes: int, nodes: int, depth: int, denied_names: tuple[str, ...], /) -> None:
    """Limits of every capture from now on."""

def set_hidden(inputs: bool, outputs: bool, /) -> None:
    """Whether inputs and outputs are kept."""

def set_redaction(
    secrets: bool,
    pii: list[str],
    operators: dict[str, tuple[str, str, int]],
    key: bytes,
    call: Callable[[str, str], str] | None,
) -> None:
    """What every capture from now on looks for. An operator is its name, its text, and the characters it shows."""

def redact(text: str, before: str) -> tuple[str, list[tuple[str, int, int]]]: ...
def pii_entities() -> list[str]: ...
def secret_entities() -> list[str]: ...
def register_encoder(kind: type, encode: Callable[[Any], object] | None, /) -> None: ...
def flush(timeout_s: float) -> bool: ...

class Health(TypedDict):
    path: str | None
    recorded_spans: int
    stored_spans: int
    sampled_out_spans: int
    dropped_spans: int
    dropped_bytes: int
    degraded_records: int
    open_spans: int
    waiting_bytes: int
    ring_bytes: int
    lag_ms: float
    commits: int
    commit_failures: int
    collector_alive: bool
    collector_restarts: int
    rejected_scores: int
    crash_safe: bool
    last_error: str

def health() -> Health: ...
def close() -> None:
    """Stores what is recorded (bounded) and stops recording; called when the interpreter exits."""

# --- asking ----------------------------------------------------------------------------------------------------------

@final
class Table:
    """A result: named columns of equal length. Owns its memory; Arrow capsules hand out copies of nothing shared."""

    @property
    def rows(self) -> int: ...
    @property
    def column_names(self) -> list[str]: ...
    @property
    def column_types(self) -> list[Literal["int", "float", "bool", "string", "timestamp"]]: ...
    @property
    def sampled_out(self) -> tuple[int, int]:
        """Dropped spans of the asked time that an aggregation includes, and that it does not."""

    def column(self, name: str) -> list[Any]:
        """Python values, None where absent; timestamps as int nanoseconds, histogram() and top() as lists. KeyError for
        an unknown name."""

    def ordered(self, order_by: str, descending: bool, limit: int | None) -> Table:
        """The rows by a column (none: as they are), absent values last; at most `limit`."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...

class SpanDict(TypedDict):
    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: Kind
    status: Literal["ok", "error", "running", "interrupted"]
    start_ns: int
    duration_ns: int | None
    attributes: dict[str, object]  # every other column and attribute with a value; JSON text parsed
    depth: int
    child_count: int
    self_ns: int | None
    critical_ns: int
    totals: TotalsTuple

# spans, errors, model calls, unpriced calls, cost, tokens: input, cache read, cache write, output, reasoning
TotalsTuple = tuple[
    int, int, int, int, float | None, int | None, int | None, int | None, int | None, int | None
]  # fmt: skip

class TraceSummary(TypedDict):
    trace_id: str
    root_id: str
    name: str
    kind: Kind
    status: Literal["ok", "error", "running", "interrupted"]
    start_ns: int
    duration_ns: int | None
    totals: TotalsTuple

class TraceOutline(TypedDict):
    """Bytes are columns of 8 bytes a span, as array.array reads them."""

    span_id: bytes  # "Q"
    parent: bytes  # "q": its place; -1: none here
    depth: bytes  # "q"
    start_ns: bytes  # "q"
    duration_ns: bytes  # "q"; -1: not known
    cost_usd: bytes  # "d": its own, of model calls; NaN: none
    kind: list[str]
    status: list[str]

class SessionDict(TypedDict):
    session_id: str
    users: list[str]
    turns: list[tuple[TraceSummary, SpanDict]]  # the trace, its root
    totals: TotalsTuple

TracePage = tuple[list[SpanDict], int, TraceSummary]  # spans, lines of all pages, the whole trace
PathTuple = tuple[str, str, str, int, int]  # span id, name, kind, start, duration

class GrepHit(TypedDict):
    trace_id: str
    span_id: str
    span_name: str
    start_ns: int
    column: str
    snippet: str
    match: tuple[int, int]  # start and end in the snippet, characters

class StoreInfo(TypedDict):
    path: str
    format: int
    segments: int
    spans: int
    open_spans: int
    sampled_out_spans: int
    scores: int
    column_bytes: int
    text_bytes: int
    raw_text_bytes: int
    filter_bytes: int
    file_bytes: int
    disk_bytes: int  # of data.mdb: less than file_bytes, for freed space is given back
    first_start_ns: int
    last_start_ns: int
    lmdb_version: str

class Recovery(TypedDict):
    rings: int
    spans: int
    interrupted_spans: int
    damaged_rings: int

class Feed(TypedDict):
    turn: int
    state: builtins.bytes
    taking: int  # the segment under way; 0: none
    taken_rows: int
    waiting: list[tuple[int, int, Literal["spans", "rollups", "scores"]]]  # id, rows, of what; the one under way too

DocumentTuple = tuple[str, int, int, str | None]  # name, version, when it was put, JSON (None: a deletion)

class Verification(TypedDict):
    segments: int
    spans: int
    rollups: int
    scores: int
    documents: int
    problems: list[str]

@final
class Store:
    """A store opened by spanbox.open(). `since_ns` is inclusive, `until_ns` exclusive; None: no bound."""

    def __init__(self, path: str, create: bool) -> None:
        """Opens the folder and stores the spans of processes that died before they could."""

    @property
    def path(self) -> str: ...
    @property
    def recovery(self) -> Recovery: ...
    threads: int
    """How many threads a question may use, from 1."""
    def append(self, rows: Sequence[dict[str, object]]) -> int:
        """Stores rows made elsewhere in one commit; returns how many were new.

        Keys are column names (trace_id and span_id as hexadecimal text, start_ns required) or attribute names. A row
        whose (trace_id, span_id) is in the store already is skipped, so an import can be repeated. ValueError names
        the row's index and what is wrong with it; then nothing of the call is stored.
        """

    def append_scores(self, scores: Sequence[dict[str, object]]) -> int:
        """Stores scores in one commit: keyword arguments of score(), and at_ns. ValueError names the one that is
        wrong; then none is stored."""

    def count(self, filter: str, since_ns: int | None, until_ns: int | None, scores: bool = False) -> int: ...
    def sampled_out(
        self, filter: str, since_ns: int | None, until_ns: int | None, scores: bool = False
    ) -> tuple[int, int]:
        """Dropped spans of that time that count() includes, and that it does not because the filter cannot tell."""
    def quantiles(
        self,
        filter: str,
        since_ns: int | None,
        until_ns: int | None,
        column: str,
        qs: Sequence[float],
        exact: bool,
        scores: bool = False,
    ) -> tuple[list[float], int, float, tuple[int, int]]:
        """Values (NaN when there are none), how many there were, the bound on the relative error, and dropped spans
        that are included and that are not."""

    def aggregate(
        self,
        filter: str,
        since_ns: int | None,
        until_ns: int | None,
        by: Sequence[str],
        every_ns: int,
        time_zone: str,
        aggregates: Sequence[tuple[str, str]],
        scores: bool = False,
        only: Sequence[int] | None = None,
    ) -> Table:
        """`only` these segments of a feed: StoreError when one has been merged meanwhile."""

    def scan(
        self,
        filter: str,
        since_ns: int | None,
        until_ns: int | None,
        columns: Sequence[str],
        limit: int | None,
        order_by: str,
        descending: bool,
        scores: bool = False,
        only: Sequence[int] | None = None,
        skip: int = 0,
    ) -> Table: ...
    def trace(self, trace_id: str) -> list[SpanDict]:
        """Every span of a trace: depth first, children by start. NotFoundError."""
    def trace_page(
        self, trace_id: str, offset: int, limit: int | None, collapsed: Sequence[str], payloads: bool
    ) -> TracePage:
        """Some lines of a trace's tree; spans below the collapsed ones are no lines."""
    def trace_outline(self, trace_id: str) -> tuple[TraceSummary, TraceOutline]:
        """Every span of a trace in the order of its tree, in columns without any text."""
    def critical_path(self, trace_id: str) -> list[PathTuple]: ...
    def sessions(
        self,
        filter: str,
        since_ns: int | None,
        until_ns: int | None,
        order_by: str,
        descending: bool,
        limit: int | None,
    ) -> Table: ...
    def session(self, session_id: str) -> SessionDict: ...
    def summaries(self, trace_ids: Sequence[str]) -> list[TraceSummary]:
        """In this order; those that are not in the store are left out."""

    def trace_scores(self, trace_id: str) -> list[dict[str, Any]]:
        """Of the trace and its spans, in the order they were given: trace_id, span_id, name, at, and what else there
        is."""

    def find_traces(self, hex_prefix: str, limit: int) -> list[str]: ...
    def grep(
        self,
        filter: str,
        since_ns: int | None,
        until_ns: int | None,
        pattern: str,
        regex: bool,
        ignore_case: bool,
        limit: int,
    ) -> tuple[list[GrepHit], int]: ...
    def blob(self, id: str) -> bytes:
        """ValueError for a malformed id, NotFoundError for an unknown one."""

    def info(self) -> StoreInfo: ...
    def verify(self) -> Verification: ...
    def erase(self, filter: str, since_ns: int | None, until_ns: int | None, secure: bool) -> tuple[int, int]:
        """Spans and blobs that were taken out."""
    def retention(self) -> tuple[int, int]:
        """max_age_ns and max_bytes; 0: no limit."""
    def set_retention(self, max_age_ns: int, max_bytes: int) -> int:
        """Sets both and drops what is beyond them; spans dropped."""
    def backup(self, path: str) -> None: ...
    def compact(self) -> None:
        """Merges all there is and packs it as small as it gets."""
    def merge(self) -> int:
        """Merges small segments until none is left to merge; returns how many merges were made."""

    def feed(self, name: str) -> Feed:
        """What a consumer has not taken yet; everything, when there is no feed of that name."""
    def advance_feed(
        self, name: str, turn: int, taken: Sequence[int], taking: int, taken_rows: int, state: builtins.bytes
    ) -> bool:
        """Stores that these segments are taken, and that one is under way. False, and nothing is stored, when another
        has stored a step since this `turn`, or a segment has been merged: read the feed again."""
    def drop_feed(self, name: str) -> None: ...
    def feeds(self) -> list[str]: ...
    def put_document(self, kind: str, name: str, json: str | None, at_ns: int, expected: int | None) -> int:
        """The version given to it. Without JSON: a deletion. StoreError: `expected` is not the newest version."""
    def document(self, kind: str, name: str, version: int) -> DocumentTuple: ...
    def documents(self, kind: str) -> list[DocumentTuple]: ...
    def document_history(self, kind: str, name: str) -> list[DocumentTuple]: ...
    def processes(self) -> list[dict[str, object]]: ...
    def receive_otlp(self, body: bytes, is_json: bool) -> tuple[int, int, int, str]:
        """Stores the spans of an OTLP body and their scores: spans stored, in the store already, rejected; and why the
        first was. ValueError when the body cannot be read; then nothing is stored."""

@final
class SpanStream:
    """Spans that match, by start, in tables of one schema; read anew each time it is iterated or handed over.

    `lazy`: reads no rows before. Without columns a small answer that is not lazy has those that its rows have, any
    other all that a span of the time has. `types`: with the column `spanbox.types`, where it is needed.
    """

    def __init__(
        self,
        store: Store,
        filter: str,
        since_ns: int | None,
        until_ns: int | None,
        columns: Sequence[str],
        limit: int | None,
        lazy: bool,
        scores: bool = False,
        types: bool = False,
    ) -> None: ...
    @property
    def columns(self) -> list[tuple[str, str, bool]]:
        """Name, type, and whether all its values have that type in the store, too (False when that is not known)."""

    def __iter__(self) -> Iterator[Table]: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...

def table_of(stream: object) -> Table:
    """All rows of an arrow_array_stream capsule."""

@final
class Ingest:
    """Rows of others on their way into a store. Errors are ValueErrors that name the row or line, and the column."""

    def __init__(self, store: Store, name: str, skip_bad: bool) -> None:
        """`name` empty: how far it has come is not remembered."""

    @property
    def stored_before(self) -> int:
        """Rows that an earlier ingest of this name has stored."""

    @property
    def rows(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def bad(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def problems(self) -> list[str]: ...
    def set_first_row(self, row: int) -> None:
        """What comes begins with this row of the input."""

    def take_arrow(self, stream: object) -> None:
        """Takes what an arrow_array_stream capsule holds."""

    def step(self) -> bool:
        """Stores up to one commit of the stream; False when it has ended."""

    def store_lines(self, lines: builtins.bytes, first_line: int) -> None:
        """Whole lines of JSON objects."""

def check_filter(filter: str, scores: bool = False) -> None:
    """Raises FilterError when the filter does not parse."""

CONVENTIONS: str  # the release of the emitter whose attribute names are followed

def encode_otlp(rows: Table | Sequence[Mapping[str, Any]], is_json: bool, openinference: bool) -> bytes:
    """An ExportTraceServiceRequest of spans: of a Table with their ids and start, or of dicts as Store.append takes
    them or Store.trace gives them. Only dicts keep the type of every value: a Table has one for each column.

    `openinference`: with the names that Phoenix reads, too."""

def normalise(attributes: dict[str, Any], start_ns: int | None = None) -> dict[str, Any]:
    """Columns and attributes of a span, as Store.append takes them, from the attributes of any dialect; `kind` is
    always there."""

def restore(row: dict[str, Any]) -> dict[str, Any]:
    """The attributes that normalise() was given, from the row it made; for other rows, today's OpenTelemetry names."""

def set_stage(function: Callable[[str, bool], str | None] | None) -> None:
    """What sees every text before it is stored (_redact_stage); None: nothing does."""

def has_stage() -> bool: ...
def stage_next(wait_ms: int) -> tuple[str, bool] | None:
    """The next text that the collector waits for, and whether it is JSON; waits without the GIL."""

def stage_answer(text: str | None) -> None:
    """What is stored of it; None withholds it."""

def stop_stage() -> None:
    """From now on texts are withheld at once."""

def forget_stage() -> None:
    """In a forked child: nothing of the parent's is waited for."""

def set_price_file(path: str) -> None:
    """Where the price list of what is recorded and stored is (_price_compile): read when it is needed."""

def set_own_prices(json: str) -> None:
    """Prices that come before it."""

def attribute_rules() -> list[tuple[str, str]]:
    """Column and attribute, in order of precedence: the first of a column is its name on export."""

def columns() -> list[tuple[str, str, str, str]]:
    """Name, alias, type and description of every named column."""
