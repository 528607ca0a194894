/** What the frame knows and pages tell it. */

import type { LiveTick, Status } from './api';
import { setWriteToken } from './client';
import { Query } from './query.svelte';

class App {
  readonly status = new Query<Status>();
  summary = $state(''); // beside the filter
  answer = $state(''); // right end of the health strip
  findings = $state<number | null>(null); // in the nav
  since = $state(''); // new traces are those that began after it

  async load(): Promise<void> {
    const status = await this.status.load('/api/status');
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
