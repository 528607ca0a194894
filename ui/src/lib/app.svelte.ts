/** What the frame knows and pages tell it. */

import type { FindingsAnswer, LiveTick, OverviewAnswer, Status } from './api';
import { get, setWriteToken } from './client';
import { Query } from './query.svelte';

class App {
  readonly status = new Query<Status>();
  summary = $state(''); // beside the filter
  answer = $state(''); // right end of the health strip
  findings = $state<number | null>(null); // in the nav
  since = $state(''); // new traces are those that began after it

  private first: { shared: Record<string, string>; answer: Promise<OverviewAnswer> } | null = null;

  /** On the overview the first request brings the frame and the verdict at once. */
  async begin(shared: Record<string, string> | null): Promise<void> {
    if (shared === null) return this.load();
    const answer = get<OverviewAnswer>('/api/overview', shared);
    this.first = { shared, answer };
    return this.load(answer.then((both) => both.status));
  }
  /** The findings of the first request, once, when it asked the same. */
  takeFindings(shared: Record<string, string>): Promise<FindingsAnswer> | undefined {
    const first = this.first;
    this.first = null;
    return first?.shared === shared ? first.answer.then((both) => both.findings) : undefined;
  }

  async load(first?: Promise<Status>): Promise<void> {
    const status = await this.status.load('/api/status', {}, first);
    if (status) setWriteToken(status.write_token);
    if (status && this.since === '') this.since = status.now_ns;
  }
  health(tick: LiveTick | null) {
    return tick?.health ?? this.status.data?.health ?? null;
  }
}
export const app = new App();

/** '15 s buckets · last one 40 % full' and how long it took, for the strip. */
export function readIn(tookMs: number): string {
  return `read in ${tookMs < 10 ? tookMs.toFixed(1) : Math.round(tookMs)}\u2009ms`;
}
