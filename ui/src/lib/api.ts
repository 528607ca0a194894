/**
 * The JSON API of `spanbox ui` (python/spanbox/server, docs/http_api.md), as types and nothing else.
 *
 * - Names are Python's. A name ends with its unit: `_ns`, `_s`, `_bytes`, `_usd`.
 * - A moment is `TimeNs`, a decimal string, because a double cannot hold it. A length of time is a number of nanoseconds.
 * - Every path takes `q` (filter), `from`, `to`, `vs`, `tz` as the page's URL has them; from/to: `-6h`, `now`, UTC ISO, or
 *   TimeNs. `px` is how wide a chart is: it gets at most min(px, 400) points.
 * - Text is data as it was recorded: hostile, never markup.
 * - Answers that extend `Columnar` come as `application/vnd.spanbox.columns`:
 *     u32 little-endian length of the head · head: JSON in UTF-8, padded with spaces so that the doubles begin at a
 *     multiple of 8 · doubles, little-endian
 *   In the head a column is `{"$f64": [first double, count]}`; here it is the Float64Array over the body that stands for
 *   it. NaN: nothing there.
 * - Errors have a status of 400 and more and an `ApiError` for a body. Writes (all but GET) need
 *   `content-type: application/json` and the header `x-spanbox-token: <Status.write_token>`.
 */

export type TimeNs = string;
export type Ns = number;
export type Severity = 'error' | 'warning';
export type Scalar = string | number | boolean | null;
export type Kind =
  | 'span'
  | 'llm'
  | 'embedding'
  | 'retriever'
  | 'reranker'
  | 'tool'
  | 'agent'
  | 'workflow'
  | 'chain'
  | 'guardrail'
  | 'evaluator'
  | 'prompt'
  | 'memory';
export type Tag = 'AGT' | 'LLM' | 'TOL' | 'RET' | 'EMB' | 'VEC' | 'RNK' | 'GRD' | 'EVL' | 'CHN' | 'FN';
export type SpanStatus = 'ok' | 'error' | 'running' | 'interrupted';

export interface ApiError {
  code:
    | 'filter' // the filter text is wrong: at, len, fix
    | 'bad_request'
    | 'unauthorized'
    | 'forbidden'
    | 'not_found'
    | 'method_not_allowed'
    | 'unsupported_media_type'
    | 'too_large'
    | 'read_only'
    | 'damaged' // what is asked for fails its checksum
    | 'unavailable'; // the store cannot be read now: try again
  message: string;
  at?: number; // of `q`: where the fault begins, UTF-16 units from 0
  len?: number;
  fix?: string; // what to put there instead
}

/** GET answers about a range say which. `vs` fields are null when nothing is compared. */
export interface Range {
  from_ns: TimeNs;
  to_ns: TimeNs;
  vs_from_ns: TimeNs | null;
  vs_to_ns: TimeNs | null;
}

/** What each panel states of itself (PAGE 9, 10). */
export interface Panel {
  state: 'ok' | 'empty' | 'few'; // few: too little data for what the panel would say
  state_text: string; // a sentence for empty and few, else ''
  basis: string; // one line
  basis_full: string; // all of it, sentences
  range: Range;
  took_ms: number;
}

export type Columnar = { readonly __columnar?: never };

/** Time buckets of a chart. */
export interface TimeAxis {
  t_s: Float64Array; // begin of each bucket, seconds since 1970
  bucket_ns: Ns;
  partial_from_s: number | null; // begin of the bucket that is still filling
  partial_share: number | null; // how full it is, 0 to 1
  gaps: Gap[];
  marks: Mark[];
}

export interface Gap {
  from_ns: TimeNs;
  to_ns: TimeNs;
  why: string; // 'nothing recorded'
}

/** A moment somebody has named: a deploy, a release seen for the first time. */
export interface Mark {
  at_ns: TimeNs;
  name: string; // 'v7.3'
  kind: 'deploy' | 'release' | 'prompt_version' | 'note';
}

// POST /api/session, with `authorization: Bearer <token of the fragment>`: sets the cookie -----------------------------

export interface SessionStarted {
  write_token: string;
}

// GET /api/status -------------------------------------------------------------------------------------------------------

export interface Status {
  version: string;
  now_ns: TimeNs;
  read_only: boolean;
  write_token: string; // header x-spanbox-token of every write
  store: Store;
  health: HealthStrip;
  columns: ColumnInfo[]; // for completion and headings: columns, then attributes and scores by name
  models: Model[]; // by calls; color sticks to its model
  score_names: string[];
  kinds: Kind[];
  marks: Mark[];
}

export interface Store {
  name: string; // last two parts of its folder
  spans: number;
  open_spans: number;
  sampled_out_spans: number;
  segments: number;
  scores: number;
  file_bytes: number;
  first_start_ns: TimeNs | null; // null: no spans
  last_start_ns: TimeNs | null;
}

export interface HealthStrip {
  severity: Severity | null; // of the worst fact; null: all is well
  worst: string; // its sentence; '' when all is well
  spans_per_s: number; // over the last minute
  lag_ms: number | null; // of the server's own process; null: it records nothing
  dropped_spans: number;
  processes: number;
  running: number;
  interrupted: number; // in the last 24 h
  spans: number;
  file_bytes: number;
  gaps: Gap[]; // of the last 24 h, newest first
}

export interface ColumnInfo {
  name: string;
  alias: string; // the name without its unit; '' where there is none
  type: 'id' | 'int' | 'float' | 'bool' | 'string' | 'text' | 'time' | 'duration' | 'cost' | 'mixed';
  description: string;
  source: 'column' | 'attribute' | 'score';
  numeric: boolean;
}

export interface Model {
  name: string;
  color: number; // 0-5: m1-m6; 6 and more: k2 with its name
  calls: number;
}

// GET /api/overview : the first request of the first screen ---------------------------------------------------------------

export interface OverviewAnswer {
  status: Status;
  findings: FindingsAnswer;
}

// GET /api/findings -----------------------------------------------------------------------------------------------------

export interface FindingsAnswer extends Panel {
  sentence: string; // bold: '4 things are worse since deploy v7.3 at 02:14.'
  detail: string; // what follows it; may be ''
  checked: number; // comparisons made
  too_few: number; // comparisons not made for want of data
  window: { from_ns: TimeNs; to_ns: TimeNs }; // what "now" is
  mark: Mark | null; // named in the sentence
  items: Finding[]; // worst first, all of them; the page shows five
}

export interface Finding {
  id: string; // stable while the finding is: for keys of lists
  group: 'failing' | 'slow' | 'worse' | 'dearer' | 'budget' | 'drifted' | 'recording'; // budget: `before` is what may be spent
  severity: Severity;
  label: string; // 'Failing'
  what: string; // 'tool refund_lookup, HTTP 429'
  now: number;
  before: number;
  change: number; // ratio for unit ns and usd (3.1), difference for rate and score
  unit: 'ns' | 'rate' | 'usd' | 'score' | 'count';
  p: number | null; // corrected; null: a fact, no test
  since_ns: TimeNs | null; // when it began, as far as that can be told
  spark: (number | null)[]; // of the range, oldest first
  spark_mark: number | null; // index where it began
  differs: Differs | null; // what the calls concerned share
  proof: Proof | null;
  n: number; // calls concerned
  of: number; // calls compared
  filter: string; // the calls concerned, as a filter
}

export interface Differs {
  column: string;
  op: '==' | '>' | '<' | '>=' | '<=' | 'is';
  value: Scalar;
  text: string; // as a filter: 'input_tokens > 16000'
  of_them: number; // share, 0 to 1
  of_others: number;
}

export interface Proof {
  trace_id: string;
  span_id: string;
  start_ns: TimeNs;
  why: 'newest' | 'slowest' | 'dearest' | 'lowest' | 'highest';
  value: number | null; // in the finding's unit
  text: string; // '3 retries', the error; may be ''
}

// GET /api/overview/latency?px= -----------------------------------------------------------------------------------------

export interface LatencyAnswer extends Panel, TimeAxis, Columnar {
  recent: { from_ns: TimeNs; to_ns: TimeNs }; // what the values at the right are of
  rows: LatencyRow[]; // by calls, at most 12
  more_models: number; // beyond them
  min_ns: { ttft: Ns | null; tpot: Ns | null }; // over all rows: the shared log scale
  max_ns: { ttft: Ns | null; tpot: Ns | null };
}

export interface LatencyRow {
  model: string | null; // null: calls without a model
  color: number;
  n: number; // calls
  ttft: LatencyPart;
  tpot: LatencyPart;
}

export interface LatencyPart {
  n: number; // calls that have it
  p50: Float64Array; // ns, by bucket
  p99: Float64Array;
  recent: { n: number; p50_ns: Ns | null; p99_ns: Ns | null };
  before: { n: number; p50_ns: Ns | null; p99_ns: Ns | null } | null; // of `vs`
  worse: boolean; // among the findings
}

// GET /api/overview/cost?px= --------------------------------------------------------------------------------------------

export interface CostAnswer extends Panel, TimeAxis, Columnar {
  rolling: Float64Array; // US dollars per 1,000 requests over the 24 h before each bucket's end
  short: Float64Array; // the same, of the bucket alone
  usd_per_1k: number | null; // now, rolling
  usd_per_1k_recent: number | null; // of the last hour
  usd_per_1k_before: number | null; // of `vs`
  budget_usd_per_1k: number | null;
  crossing: { at_ns: TimeNs; usd_per_1k: number } | null; // of the budget, at the last hour's rate
  requests: number;
  cost_usd: number | null;
  unpriced_calls: number;
  calls: number;
}

// GET /api/overview/quality?score=&px= ----------------------------------------------------------------------------------

export interface QualityAnswer extends Panel, TimeAxis, Columnar {
  score: string | null; // the one shown; null: there are none
  scores: { name: string; n: number }[]; // of the range, by n
  mean: Float64Array;
  low: Float64Array; // 95 % interval
  high: Float64Array;
  n: Float64Array;
  value: number | null; // of the recent window
  half_width: number | null;
  before: number | null; // of `vs`
  change: number | null;
  p: number | null;
  judged: number;
  judged_share: number | null; // of traces
  evaluator: string;
  evaluator_version: string;
  source: string;
  kappa: { value: number; n: number } | null; // agreement with people
  min: number;
  max: number; // of the values: the scale
}

// GET /api/overview/failures?px= ----------------------------------------------------------------------------------------

export interface FailuresAnswer extends Panel, TimeAxis, Columnar {
  kinds: FailureKind[]; // most frequent now first; the last may be 'other'
  rate: number | null; // of the recent window
  failed: number;
  of: number;
  rate_before: number | null;
}

export interface FailureKind {
  name: string;
  rate: Float64Array; // share of all root spans of the bucket: they add up
  now: number; // share in the recent window
  before: number | null;
  n: number; // of the range
  filter: string;
}

// GET /api/overview/slow?n=10 -------------------------------------------------------------------------------------------

export interface SlowAnswer extends Panel {
  of: number; // root spans of the window
  rows: SlowTrace[];
}

export interface SlowTrace {
  trace_id: string;
  span_id: string; // the span with the dominant part
  name: string;
  start_ns: TimeNs;
  duration_ns: Ns; // of a running one: until now
  status: SpanStatus;
  errors: number;
  model: string | null; // of the longest model call
  color: number;
  parts: TimeParts; // add up to duration_ns
  dominant: string; // '5.90 s wait'
}

export interface TimeParts {
  waiting_ns: Ns; // for a model's first token
  streaming_ns: Ns;
  tools_ns: Ns; // tools, retrieval, everything that is no model
  own_ns: Ns; // the program's own code
}

// GET /api/traces?sort=&cols=&offset=&limit=200&sel=&y= -----------------------------------------------------------------

export interface TracesAnswer extends Panel {
  total: number; // traces that match
  total_is: 'exact' | 'so far';
  read_share: number; // of the range, newest first: below 1 ask the same again, from range.from_ns to range.to_ns
  offset: number;
  sort: string; // '-start'
  columns: string[]; // of `cells`, as asked for
  newest_ns: TimeNs | null; // start of the newest match
  hint: { drop: string; q: string; total: number } | null; // nothing matches: the clause to drop, the filter then, its traces
  max_duration_ns: Ns | null; // of the page, for bars
  rows: TraceRow[];
}

export interface TraceRow {
  trace_id: string;
  span_id: string; // of the root
  name: string;
  kind: Kind;
  status: SpanStatus;
  start_ns: TimeNs;
  duration_ns: Ns | null;
  input: string; // one line; '' when there is none
  snippet: Snippet | null; // where `q` matches, when it searches text
  input_match: [number, number][]; // of `input`: UTF-16 units
  model: string | null;
  color: number;
  more_models: number;
  ttft_ns: Ns | null; // of the trace: first token of its first model call that streams
  input_tokens: number | null;
  output_tokens: number | null;
  cost_usd: number | null;
  spans: number;
  errors: number;
  cells: Scalar[]; // of `columns`, of the root
}

export interface Snippet {
  column: string;
  text: string;
  match: [number, number][];
}

// GET /api/traces/heat?y=duration|ttft|cost|tokens&px= -------------------------------------------------------------------

export interface HeatAnswer extends Panel, TimeAxis, Columnar {
  y: 'duration' | 'ttft' | 'cost' | 'tokens';
  y_unit: 'ns' | 'usd' | 'count';
  y_edges: Float64Array; // rows + 1, ascending, each the same ratio above the one before; empty: no values
  counts: Float64Array; // rows x buckets, a bucket's rows together: counts[bucket * rows + row]
  max_count: number;
  total: number;
  selected: number | null; // inside `sel`
}

// GET /api/traces/apart?sel=&y= -----------------------------------------------------------------------------------------

export interface ApartAnswer extends Panel {
  selected: number;
  others: number;
  compared: number; // columns
  items: ApartItem[]; // strongest first
}

export interface ApartItem extends Differs {
  p: number; // corrected
  significant: boolean;
}

// GET /api/facets -------------------------------------------------------------------------------------------------------

export interface FacetsAnswer extends Panel {
  facets: Facet[];
}

export interface Facet {
  column: string;
  values: FacetValue[];
  more: { values: number; count: number } | null;
}

export interface FacetValue {
  label: string;
  value: Scalar;
  filter: string; // 'tenant == "acme"'
  count: number; // under the present filter without this facet's own clause
  selected: boolean; // the filter has this clause
  color: number | null; // of models
}

// GET /api/complete?text=&at= (UTF-16 unit of the caret) ------------------------------------------------------------------

export interface CompleteAnswer {
  from: number; // what is replaced, in `text`
  to: number;
  items: Completion[];
  error: ApiError | null; // what is wrong with `text`, if anything
}

export interface Completion {
  text: string; // put there
  kind: 'column' | 'operator' | 'value' | 'keyword';
  detail: string; // description, or what values look like
  count: number | null; // of values
}

// GET /api/trace/{id}?offset=&limit=512&collapsed=span,span&at=span ----------------------------------------------

export interface TraceAnswer extends TraceRest {
  trace_id: string;
  root_id: string;
  name: string;
  kind: Kind;
  status: SpanStatus;
  start_ns: TimeNs;
  duration_ns: Ns | null; // until the last end that is known
  known_ns: Ns; // from its start to the last moment known of it; of a running one until now
  now_ns: TimeNs; // running spans last until here
  totals: Totals;
  scores: Score[]; // of the whole trace, latest of each name
  line_count: number; // of all pages
  offset: number;
  spans: SpanRow[];
  basis: string;
  basis_full: string;
}

/** GET /api/trace/{id}/rest: what is said about the whole trace. */
export interface TraceRest {
  complete: boolean; // false, of more than 2,000 spans: head is what the root tells, the others are empty; ask for them
  head: TraceHead;
  failed: FailedInside | null;
  time_parts: Part[]; // 'Where 14.82 s went': they add up to the root's duration
  cost_parts: Part[]; // in US dollars; they add up to totals.cost_usd
  failures: Place[]; // depth first, at most 5,000
  critical_path: PathStep[]; // at most 5,000
  idle: { from_ns: Ns; to_ns: Ns } | null; // from the trace's start: most of its time, in which no innermost span ran
}

export interface Totals {
  spans: number;
  errors: number; // failed spans none of whose children failed
  model_calls: number;
  unpriced_calls: number;
  cost_usd: number | null;
  input_tokens: number | null;
  cache_read_tokens: number | null;
  cache_write_tokens: number | null;
  output_tokens: number | null;
  reasoning_tokens: number | null;
}

export interface TraceHead {
  first_token_ns: Ns | null; // from the trace's start: the first token its caller could see
  user_id: string | null;
  session_id: string | null;
  turn: number | null; // of the session, from 1
  prompt_name: string | null;
  prompt_version: string | null;
  release: string | null;
  environment: string | null;
  tenant: string | null;
  feature: string | null;
  models: Model[];
}

export interface SpanRow {
  span_id: string;
  parent_id: string | null;
  parent_known: boolean;
  name: string;
  kind: Kind;
  tag: Tag;
  status: SpanStatus;
  depth: number; // from 0
  line: number; // of all pages
  set_size: number; // aria-setsize
  position: number; // aria-posinset, from 1
  child_count: number;
  collapsed: boolean;
  offset_ns: Ns; // start, from the trace's start
  duration_ns: Ns | null;
  self_ns: Ns | null;
  critical_ns: Ns; // 0: not on the critical path
  ttft_ns: Ns | null;
  tpot_ns: Ns | null;
  model: string | null;
  color: number;
  input_tokens: number | null;
  cache_read_tokens: number | null;
  output_tokens: number | null;
  cost_usd: number | null; // its own
  totals: Totals; // with everything below it
  error: string | null; // one line
  chunks: number | null; // of a stream: there is a chunk lane
  scores: { name: string; value: Scalar }[]; // latest of each name
}

export interface Part {
  label: string; // 'waiting for gpt-5'
  kind: 'waiting' | 'streaming' | 'tool' | 'failed' | 'back_off' | 'own' | 'prompt' | 'cached' | 'output' | 'documents' | 'other';
  value: number; // ns or US dollars
  share: number; // of the total
  model: string | null;
  color: number | null;
  span_ids: string[]; // at most 100
}

export interface Place {
  span_id: string;
  line: number; // with nothing collapsed
}

export interface PathStep extends Place {
  offset_ns: Ns;
  duration_ns: Ns;
}

export interface FailedInside {
  sentence: string;
  span_id: string; // the deepest cause
  trace_failed: boolean; // false: the trace answered all the same
}

// GET /api/trace/{id}/changed : null when nothing stands out ---------------------------------------------------------------

export type ChangedAnswer = WhatChanged | null;

export interface WhatChanged {
  against: string; // '1,204 good traces before v7.3'
  n: number;
  items: { column: string; before: Scalar; now: Scalar; unit: 'ns' | 'usd' | 'count' | 'text' }[]; // at most 3
  typical_trace_id: string | null; // to diff with: the medoid
}

// GET /api/trace/{id}/diff?vs={the trace it is compared with}&offset=&limit=2000 ------------------------------------------

export interface TraceDiffAnswer {
  trace_id: string;
  now: DiffSide; // this trace
  before: DiffSide; // the one it is compared with
  matched: number; // spans that both have
  changed: number; // of these: with `changes`
  added: number; // only in this one
  removed: number; // only in the other one
  divergence: Divergence | null; // null: no output differs, or outputs were not compared (`basis`)
  line_count: number;
  offset: number;
  rows: DiffRow[]; // depth first; what has gone stands before what came in its place
  longest_change_ns: Ns; // for bars
  basis: string;
  basis_full: string;
  took_ms: number;
}

export interface DiffSide {
  trace_id: string;
  name: string;
  status: SpanStatus;
  start_ns: TimeNs;
  duration_ns: Ns | null;
  totals: Totals;
}

export interface DiffRow {
  state: 'same' | 'changed' | 'added' | 'removed';
  depth: number;
  name: string;
  tag: Tag;
  model: string | null;
  color: number;
  now: DiffSpan | null;
  before: DiffSpan | null;
  delta_ns: Ns | null; // now less before
  changes: { name: string; before: Scalar; now: Scalar }[]; // facts that differ, at most 6
  more_changes: number;
}

export interface DiffSpan {
  span_id: string;
  status: SpanStatus;
  offset_ns: Ns; // from its trace's start
  duration_ns: Ns | null;
  input_tokens: number | null;
  output_tokens: number | null;
  cost_usd: number | null; // its own
  error: string | null;
}

/** The first output that differs, by the time when spans of this trace ended. */
export interface Divergence {
  span_id: string;
  before_span_id: string;
  name: string;
  same_input: boolean;
  at: number; // the first character that differs, from 0
  now: string; // the text around it
  before: string;
}

// GET /api/trace/{id}/minimap?px= ---------------------------------------------------------------------------------------

export interface MinimapAnswer extends Columnar {
  offset_ns: Float64Array; // begin of each bucket, from the trace's start
  bucket_ns: Ns;
  running: Float64Array; // spans that ran in it
  failed: Float64Array;
}

// GET /api/trace/{id}/find?text= ----------------------------------------------------------------------------------------

export interface FindAnswer {
  matches: Place[]; // depth first; names, errors, inputs, outputs, attributes
  total: number;
}

// GET /api/trace/{id}/span/{span_id} --------------------------------------------------------------------------------------

export interface SpanAnswer {
  span: SpanRow;
  start_ns: TimeNs;
  attributes: Attribute[];
  messages: Message[];
  documents: Document[];
  scores: Score[];
  events: SpanEvent[];
  links: { trace_id: string; span_id: string; attributes: Attribute[] }[];
  payloads: Payload[]; // input, output and every other long text
}

export interface Attribute {
  name: string;
  value: Scalar; // JSON as its text
  type: 'string' | 'int' | 'float' | 'bool' | 'json';
  is_column: boolean; // one of the named ones
  filter: string | null; // that finds it; null: cannot be filtered by
}

export interface Message {
  role: string; // system, user, assistant, tool, or what was recorded
  name: string | null;
  from: 'input' | 'output';
  parts: MessagePart[];
  finish_reason: string | null;
  same_in: number | null; // of system messages: other calls of the range that have it
}

export type MessagePart =
  | { type: 'text'; text: string; size_chars: number } // cut at 64 Ki characters
  | { type: 'reasoning'; text: string; size_chars: number }
  | { type: 'tool_call'; id: string | null; name: string; arguments: string; result: ToolResult | null }
  | { type: 'tool_result'; id: string | null; text: string; is_error: boolean; size_chars: number } // without its call
  | { type: 'media'; media_type: string; size_bytes: number | null; blob: string | null; source: string } // /api/blob/{blob}
  | { type: 'json'; text: string; size_chars: number }; // a part of an unknown shape

export interface ToolResult {
  text: string;
  size_chars: number;
  is_error: boolean;
  span_id: string | null; // the tool's span, where it is known
  duration_ns: Ns | null;
}

export interface Document {
  rank: number; // from 1
  id: string | null;
  title: string;
  text: string; // cut at 4 Ki characters
  size_chars: number;
  score: number | null;
  tokens: number | null; // as recorded
  used: boolean | null; // null: the trace has no answer to compare with
  used_why: string; // 'its id is cited', '11 words in a row are in the answer'
}

export interface Score {
  name: string;
  value: number | boolean | null;
  label: string | null;
  explanation: string | null;
  source: string;
  evaluator: string | null;
  version: string | null;
  at_ns: TimeNs;
  span_id: string | null; // null: of the whole trace
}

export interface SpanEvent {
  name: string;
  offset_ns: Ns | null; // from the span's start
  attributes: Attribute[];
}

export interface Payload {
  column: string;
  media: 'text' | 'json';
  text: string; // the first 64 KiB
  size_bytes: number; // of UTF-8
  next_offset: number | null; // bytes; null: that is all of it
}

// GET /api/trace/{id}/span/{span_id}/payload?column=&offset= --------------------------------------------------------------

export interface PayloadPage {
  column: string;
  offset: number;
  text: string; // at most 1 MiB
  size_bytes: number;
  next_offset: number | null;
}

// GET /api/blob/{id}: the bytes, as application/octet-stream, or as image/png, jpeg, gif, webp where its first bytes say so

// GET /api/trace/{id}/chunks/{span_id} --------------------------------------------------------------------------------------

export interface ChunksAnswer extends Columnar {
  at_ns: Float64Array; // arrival of each chunk, from the span's start
  n: number;
  first_token_ns: Ns | null;
  gap_p50_ns: Ns | null;
  gap_p99_ns: Ns | null;
  longest_gap_ns: Ns | null;
  stalls: { from_ns: Ns; to_ns: Ns; after_chunk: number }[]; // longer than 10 median gaps
}

// GET /api/sessions?offset=&limit=&sort= ----------------------------------------------------------------------------------

export interface SessionsAnswer extends Panel {
  rows: SessionRow[];
  more: boolean;
}

export interface SessionRow {
  session_id: string;
  users: string[];
  start_ns: TimeNs;
  active_ns: TimeNs; // start of its latest span
  duration_ns: Ns | null;
  turns: number;
  spans: number;
  errors: number;
  cost_usd: number | null;
  input_tokens: number | null;
  output_tokens: number | null;
}

// GET /api/session/{id} -----------------------------------------------------------------------------------------------------

export interface SessionAnswer {
  session_id: string;
  users: string[];
  start_ns: TimeNs;
  duration_ns: Ns | null;
  totals: Totals;
  turns: SessionTurn[];
  basis: string;
  basis_full: string;
}

export interface SessionTurn {
  trace_id: string;
  name: string;
  status: SpanStatus;
  start_ns: TimeNs;
  duration_ns: Ns | null;
  totals: Totals;
  scores: Score[];
  messages: Message[]; // what the root was given and gave
}

// GET /api/costs?by=model&by=tenant&px= -----------------------------------------------------------------------------------

export interface CostsAnswer extends Panel, TimeAxis, Columnar {
  by: string[];
  rows: CostRow[]; // dearest first
  total: CostRow;
  areas: { label: string; color: number | null; usd: Float64Array }[]; // dearest six, then 'the rest'; US dollars a bucket
  projection: {
    month: string; // '2026-11'
    spent_usd: number;
    projected_usd: number | null; // at its end
    low_usd: number | null;
    high_usd: number | null;
    level: number;
    days: number; // of history
  };
  notes: string[];
}

export interface CostRow {
  group: Scalar[]; // of `by`; [] in the total
  filter: string;
  calls: number;
  cost_usd: number | null;
  cost_source: 'recorded' | 'repriced' | 'computed' | 'both' | null;
  usd_per_1k_calls: number | null;
  unpriced_calls: number;
  untold_calls: number; // neither tokens nor cost
  input_tokens: number | null;
  cache_read_tokens: number | null;
  output_tokens: number | null;
  out_in_ratio: number | null;
  cache_hit_rate: number | null;
  saved_usd: number | null; // by the provider's cache
  lost_usd: number | null; // by broken prefixes
  served_calls: number; // by the program's own cache
  served_usd: number | null;
}

// GET /api/health -----------------------------------------------------------------------------------------------------------

export interface HealthAnswer {
  strip: HealthStrip;
  store: Store;
  sizes: { column_bytes: number; text_bytes: number; raw_text_bytes: number; filter_bytes: number };
  format: number;
  lmdb_version: string;
  processes: Process[];
  retention: { max_age_ns: Ns | null; max_bytes: number | null };
  recovery: { rings: number; spans: number; interrupted_spans: number; damaged_rings: number };
  problems: string[];
  advice: string[];
  checked_ns: TimeNs | null; // when the checksums were read last, by this server (POST /api/health/check); null: not yet
}

export interface Process {
  pid: number;
  exe: string;
  started_ns: TimeNs | null;
  dropped_spans: number;
}

// GET /api/live?q=&since= : text/event-stream, at most one event a second -------------------------------------------------

/** `event: tick` */
export interface LiveTick {
  now_ns: TimeNs;
  changed: boolean; // the store has something new since the last tick
  new_traces: number; // that match `q` and began after `since`
  newest_ns: TimeNs | null; // start of the newest span
  running: RunningTrace[]; // at most 20, newest first
  health: HealthStrip;
}

export interface RunningTrace {
  trace_id: string;
  span_id: string;
  name: string;
  start_ns: TimeNs;
}

// POST /api/scores ------------------------------------------------------------------------------------------------------------

export interface NewScore {
  trace_id: string;
  span_id?: string; // without it: of the whole trace
  name: string;
  value?: number | boolean | null;
  label?: string;
  explanation?: string;
  source: 'human' | 'feedback';
}

export interface ScoreStored {
  stored: number;
}

// GET /api/charts, POST /api/charts, DELETE /api/charts/{id} (body {}): documents of kind `chart` ---------------------------

export interface ChartsAnswer {
  charts: SavedChart[]; // oldest first
}

export interface SavedChart {
  id: string;
  version: number;
  at_ns: TimeNs; // when this version was stored
  title: string;
  q: string; // of which spans
  value: string; // an aggregate of the query language: 'p99(ttft)', 'rate(status == error)'
  by: string | null; // a column: a line for each of its values
}

export interface NewChart {
  id?: string; // of the chart that this becomes a new version of
  title: string;
  value: string;
  q?: string;
  by?: string | null;
}

export interface ChartStored {
  id: string;
  version: number;
}

// GET /api/charts/{id}?px= --------------------------------------------------------------------------------------------------

export interface ChartAnswer extends Panel, TimeAxis, Columnar {
  id: string;
  title: string;
  q: string;
  value: string;
  by: string | null;
  unit: 'ns' | 'usd' | 'rate' | 'count';
  total: number | null; // of the whole range; null where there is a line for each value of a column
  lines: { label: string; color: number | null; values: Float64Array; total: number | null }[]; // largest first, at most 6
  more_lines: number;
}

// POST /api/budget : the document `cost` of kind `budget` -------------------------------------------------------------------

export interface Budget {
  usd_per_1k: number | null; // null: none
}
