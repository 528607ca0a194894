/**
 * The list of traces in pages of 200.
 *
 * Invariants: all pages are of one question and end at the same moment, so that offsets do not move while new traces
 * come; an older question's page is never shown under a newer one.
 */

import type { TraceRow, TracesAnswer } from './api';
import { Failure, get } from './client';
import { connection, filterFault } from './query.svelte';

const PAGE = 200;
const KEPT_PAGES = 20;
type Question = Readonly<Record<string, string>>;

export class TracePages {
  answer = $state.raw<TracesAnswer | null>(null); // the first page
  failure = $state.raw<Failure | null>(null);
  longestNs = $state(1);
  private pages = $state.raw<ReadonlyMap<number, readonly TraceRow[]>>(new Map());
  private question: Question = {};
  private pending = new Set<number>();
  private turn = 0;

  get total(): number {
    return this.answer?.total ?? 0;
  }
  rowAt(index: number): TraceRow | undefined {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  async start(question: Question): Promise<TracesAnswer | null> {
    const turn = ++this.turn;
    this.pending.clear();
    try {
      const answer = await get<TracesAnswer>('/api/traces', { ...question, offset: 0, limit: PAGE });
      if (turn !== this.turn) return null;
      this.question = { ...question, from: answer.range.from_ns, to: answer.range.to_ns };
      this.answer = answer;
      this.longestNs = Math.max(1, answer.max_duration_ns ?? 1);
      this.pages = new Map([[0, answer.rows]]);
      this.failure = null;
      connection.seen(null);
      if (filterFault.error !== null && filterFault.error.text === question.q) filterFault.error = null;
      void this.readOn(turn);
      return answer;
    } catch (error) {
      if (turn === this.turn) this.failed(error, question);
      return null;
    }
  }

  /** A long search comes in slices, the newest first: asks on until all of the range is read. */
  private async readOn(turn: number): Promise<void> {
    while (turn === this.turn && this.answer && this.answer.read_share < 1) {
      try {
        const answer = await get<TracesAnswer>('/api/traces', { ...this.question, offset: 0, limit: PAGE });
        if (turn !== this.turn) return;
        this.answer = answer;
        this.pages = new Map(this.pages).set(0, answer.rows);
        this.longestNs = Math.max(this.longestNs, answer.max_duration_ns ?? 1);
      } catch (error) {
        if (turn === this.turn) this.failed(error, this.question);
        return;
      }
    }
  }

  need(from: number, to: number): void {
    for (let page = Math.floor(from / PAGE); page <= Math.floor(Math.max(from, to - 1) / PAGE); page += 1) {
      if (page * PAGE < this.total && !this.pages.has(page) && !this.pending.has(page)) void this.load(page);
    }
  }

  /** Running traces grow in place; nothing else moves. */
  async renewRunning(): Promise<void> {
    for (const [page, rows] of this.pages) {
      if (rows.some((row) => row.status === 'running')) await this.load(page);
    }
  }

  private async load(page: number): Promise<void> {
    const turn = this.turn;
    this.pending.add(page);
    try {
      const answer = await get<TracesAnswer>('/api/traces', { ...this.question, offset: page * PAGE, limit: PAGE });
      if (turn !== this.turn) return;
      const next = new Map(this.pages);
      next.set(page, answer.rows);
      for (const old of [...next.keys()].slice(0, Math.max(0, next.size - KEPT_PAGES))) if (old !== page) next.delete(old);
      this.pages = next;
      this.longestNs = Math.max(this.longestNs, answer.max_duration_ns ?? 1);
    } catch (error) {
      if (turn === this.turn) this.failed(error, this.question);
    } finally {
      this.pending.delete(page);
    }
  }

  private failed(error: unknown, question: Question): void {
    if (!(error instanceof Failure)) throw error;
    this.failure = error;
    connection.seen(error);
    if (error.isFilter && error.api) filterFault.error = { text: question.q ?? '', error: error.api };
  }
}
