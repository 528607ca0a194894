/**
 * One trace: its head, and its lines in pages of 256.
 *
 * Invariants: all pages are of one folding; a page of an older folding is never shown.
 */

import type { SpanRow, TraceAnswer, TraceRest } from './api';
import { Failure, get } from './client';
import { connection } from './query.svelte';

const PAGE = 256; // lines: what one answer costs a frame while it scrolls
const KEPT_PAGES = 48;

export class TraceData {
  answer = $state.raw<TraceAnswer | null>(null);
  failure = $state.raw<Failure | null>(null);
  private pages = $state.raw<ReadonlyMap<number, readonly SpanRow[]>>(new Map());
  private id = '';
  private fold = '';
  private shared: Record<string, string> = {};
  private pending = new Set<number>();
  private turn = 0;

  get lineCount(): number {
    return this.answer?.line_count ?? 0;
  }
  rowAt(line: number): SpanRow | undefined {
    return this.pages.get(Math.floor(line / PAGE))?.[line % PAGE];
  }
  /** A row by its id, if its page is here. */
  find(span: string): { row: SpanRow; line: number } | null {
    for (const [page, rows] of this.pages) {
      const at = rows.findIndex((row) => row.span_id === span);
      const row = rows[at];
      if (row) return { row, line: page * PAGE + at };
    }
    return null;
  }

  /** The head and the page that has `at`, or the first one. */
  async start(id: string, fold: string, shared: Record<string, string>, at: string): Promise<boolean> {
    const isSame = id === this.id && fold === this.fold;
    const turn = ++this.turn;
    [this.id, this.fold, this.shared] = [id, fold, shared];
    this.pending.clear();
    try {
      const first = await this.ask({ at });
      if (turn !== this.turn) return false;
      const page = Math.floor(first.offset / PAGE);
      this.pages = new Map([...(isSame ? [...this.pages].filter(([key]) => key !== page) : []), [page, first.spans]]);
      if (first.offset % PAGE !== 0) this.pages = new Map(); // a server with other pages: ask again by offset
      const before = isSame && this.answer?.complete ? this.answer : null;
      this.answer = first.complete || !before ? first : { ...first, ...restOf(before) };
      if (!first.complete) void this.complete(turn);
      this.failure = null;
      connection.seen(null);
      return true;
    } catch (error) {
      if (turn === this.turn) this.failed(error);
      return false;
    }
  }

  /** Of a long trace what is said about all of it comes after its rows. */
  private async complete(turn: number): Promise<void> {
    try {
      const rest = await get<TraceRest>(`/api/trace/${encodeURIComponent(this.id)}/rest`, this.shared);
      if (turn === this.turn && this.answer) this.answer = { ...this.answer, ...rest };
    } catch (error) {
      if (turn === this.turn) this.failed(error);
    }
  }

  need(from: number, to: number): void {
    for (let page = Math.floor(from / PAGE); page <= Math.floor(Math.max(from, to - 1) / PAGE); page += 1) {
      if (page * PAGE < this.lineCount && !this.pages.has(page) && !this.pending.has(page)) void this.load(page);
    }
  }
  async load(page: number): Promise<void> {
    const turn = this.turn;
    this.pending.add(page);
    try {
      const answer = await this.ask({ offset: String(page * PAGE) });
      if (turn === this.turn) this.keep(page, answer.spans);
    } catch (error) {
      if (turn === this.turn) this.failed(error);
    } finally {
      this.pending.delete(page);
    }
  }
  /** The line of a span that may be on no page yet. */
  async locate(span: string): Promise<number> {
    const here = this.find(span);
    if (here) return here.line;
    const turn = this.turn;
    try {
      const answer = await this.ask({ at: span });
      if (turn !== this.turn) return -1;
      this.keep(Math.floor(answer.offset / PAGE), answer.spans);
      return this.find(span)?.line ?? -1;
    } catch (error) {
      if (turn === this.turn) this.failed(error);
      return -1;
    }
  }

  private ask(more: Record<string, string>): Promise<TraceAnswer> {
    return get<TraceAnswer>(`/api/trace/${encodeURIComponent(this.id)}`, { ...this.shared, limit: PAGE, collapsed: this.fold, ...more });
  }
  private keep(page: number, rows: readonly SpanRow[]): void {
    const next = new Map(this.pages);
    next.delete(page);
    next.set(page, rows);
    for (const old of [...next.keys()].slice(0, Math.max(0, next.size - KEPT_PAGES))) next.delete(old);
    this.pages = next;
  }
  private failed(error: unknown): void {
    if (!(error instanceof Failure)) throw error;
    this.failure = error;
    connection.seen(error);
  }
}

function restOf(answer: TraceAnswer): TraceRest {
  const { complete, head, failed, time_parts, cost_parts, failures, critical_path, idle } = answer;
  return { complete, head, failed, time_parts, cost_parts, failures, critical_path, idle };
}
