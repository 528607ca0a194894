/**
 * One event stream for the page. `beat` counts the moments at which what is on screen should be asked for again: at
 * most one a second, fewer when answers take long, none while live is off, paused, or the tab is hidden.
 */

import type { LiveTick } from './api';
import { query } from './client';
import { connection } from './query.svelte';

const LEAST_MS = 1000;
const SHARE = 4; // asking may take a fourth of the time

class Live {
  beat = $state(0);
  tick = $state.raw<LiveTick | null>(null);
  pausedBy = $state<string | null>(null);
  private source: EventSource | null = null;
  private question = '';
  private lastBeatMs = 0;
  private costMs = 0;
  private isDue = false;

  /** Begins, or goes on with another filter. */
  start(q: string, since: string): void {
    const question = `/api/live${query({ q, since })}`;
    if (this.source && this.question === question) return;
    this.stop();
    this.question = question;
    this.source = new EventSource(question);
    this.source.addEventListener('tick', (event) => this.take(JSON.parse(event.data as string) as LiveTick));
    this.source.onopen = () => (connection.lostAtMs = null);
    this.source.onerror = () => (connection.lostAtMs ??= Date.now());
  }
  stop(): void {
    this.source?.close();
    this.source = null;
    this.question = '';
    this.tick = null;
    this.pausedBy = null;
  }
  pause(why: string): void {
    if (this.source) this.pausedBy ??= why;
  }
  resume(): void {
    this.pausedBy = null;
    this.isDue = true;
    this.advance();
  }
  /** How long the slowest of the page's questions took. */
  cost(tookMs: number): void {
    this.costMs = Math.max(tookMs, this.costMs * 0.8);
  }
  refresh(): void {
    this.lastBeatMs = performance.now();
    this.isDue = false;
    this.beat += 1;
  }

  private take(tick: LiveTick): void {
    this.tick = tick;
    this.isDue ||= tick.changed;
    this.advance();
  }
  private advance(): void {
    const wait = Math.max(LEAST_MS - 100, SHARE * this.costMs);
    if (!this.isDue || this.pausedBy !== null || document.hidden) return;
    if (performance.now() - this.lastBeatMs >= wait) this.refresh();
  }
}
export const live = new Live();
