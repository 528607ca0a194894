/**
 * A question to the server and its last good answer.
 *
 * Invariants: an answer of an older question never replaces a newer one; the same question asked again while it is on
 * its way is not sent twice; a failure leaves the last answer in place.
 */

import type { ApiError } from './api';
import { Failure, get, query, type Params } from './client';

const SKELETON_AFTER_MS = 200;

class Connection {
  lostAtMs = $state<number | null>(null);
  isDamaged = $state(false); // an answer needed a damaged part of the store

  seen(failure: Failure | null): void {
    if (failure === null || !failure.isGone) this.lostAtMs = null;
    else this.lostAtMs ??= Date.now();
    if (failure?.api?.code === 'damaged') this.isDamaged = true;
  }
}
export const connection = new Connection();

/** The fault in the filter of the URL, when the server found one. */
class FilterFault {
  error = $state.raw<{ text: string; error: ApiError } | null>(null);
}
export const filterFault = new FilterFault();

export class Query<T> {
  data = $state.raw<T | null>(null);
  failure = $state.raw<Failure | null>(null);
  isSlow = $state(false); // another question's answer has been out for longer than a glance
  tookMs = 0;

  private asked = ''; // the question on its way, or answered last
  private abort: AbortController | null = null;

  /** `first`: the answer is on its way already, as a part of another one. */
  async load(path: string, params: Params = {}, first?: Promise<T>): Promise<T | null> {
    const question = path + query(params);
    const isRefresh = question === this.asked;
    if (isRefresh && this.abort) return null;
    this.abort?.abort();
    this.asked = question;
    const abort = (this.abort = new AbortController());
    const timer = isRefresh ? 0 : setTimeout(() => (this.isSlow = this.abort === abort), SKELETON_AFTER_MS);
    const began = performance.now();
    try {
      const data = await (first ?? get<T>(path, params, abort.signal));
      if (this.abort !== abort) return null;
      this.data = data;
      this.failure = null;
      connection.seen(null);
      if (filterFault.error !== null && filterFault.error.text === params.q) filterFault.error = null;
      return data;
    } catch (error) {
      if (this.abort === abort) this.failed(error, params);
      return null;
    } finally {
      clearTimeout(timer);
      if (this.abort === abort) {
        this.abort = null;
        this.isSlow = false;
        this.tookMs = performance.now() - began;
      }
    }
  }

  /** Stops what is on its way and forgets the question. */
  stop(): void {
    this.abort?.abort();
    this.abort = null;
    this.asked = '';
  }

  private failed(error: unknown, params: Params): void {
    if (!(error instanceof Failure)) {
      if (error instanceof DOMException && error.name === 'AbortError') return;
      throw error;
    }
    this.failure = error;
    connection.seen(error);
    if (error.isFilter && error.api) filterFault.error = { text: String(params.q ?? ''), error: error.api };
  }
}
