/**
 * Stands for lib/client.ts in the notebook widget: what the page asks a server is asked of the kernel by messages of the
 * widget's model. Nothing is fetched.
 *
 * A question is {id, path, params} with the paths of the page's API; its answer {id, data} or {id, error}. Columns of
 * doubles come in one buffer (lib/api.ts, `Columnar`).
 */

import type { ApiError } from '../lib/api';
import { decodeColumns, Failure, type Params } from '../lib/client';

export { Failure, type Params };

/** What anywidget gives a view of its model. */
export interface Model {
  get(name: string): unknown;
  send(content: unknown): void;
  on(event: 'msg:custom', run: (content: unknown, buffers: readonly DataView[]) => void): void;
  off(event: 'msg:custom', run: (content: unknown, buffers: readonly DataView[]) => void): void;
}
interface Reply {
  id: number;
  data?: unknown;
  columns?: boolean;
  error?: ApiError & { status: number };
}
interface Waiting {
  resolve: (data: unknown) => void;
  reject: (failure: unknown) => void;
}

export class Kernel {
  pending = $state(0); // questions without an answer
  private waiting = new Map<number, Waiting>();
  private next = 1;
  private readonly hear = (content: unknown, buffers: readonly DataView[]) => this.take(content as Reply, buffers);

  constructor(
    readonly traceId: string,
    private readonly model: Model,
  ) {
    model.on('msg:custom', this.hear);
    kernels.push(this);
  }
  close(): void {
    this.model.off('msg:custom', this.hear);
    kernels.splice(kernels.indexOf(this), 1);
    for (const one of this.waiting.values()) one.reject(new DOMException('closed', 'AbortError'));
    this.waiting.clear();
  }

  ask(path: string, params: Params, signal?: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve, reject });
      this.pending = this.waiting.size;
      signal?.addEventListener('abort', () => {
        this.waiting.delete(id);
        this.pending = this.waiting.size;
        reject(new DOMException('aborted', 'AbortError'));
      });
      this.model.send({ id, path, params });
    });
  }
  private take(reply: Reply, buffers: readonly DataView[]): void {
    const one = this.waiting.get(reply.id);
    if (!one) return; // another view of the same model asked
    this.waiting.delete(reply.id);
    this.pending = this.waiting.size;
    const body = reply.columns ? buffers[0] : undefined;
    if (reply.error) one.reject(new Failure(reply.error.status, reply.error.message, reply.error));
    else one.resolve(body ? decodeColumns(new Uint8Array(body.buffer, body.byteOffset, body.byteLength).slice().buffer) : reply.data);
  }
}

const kernels: Kernel[] = []; // a host may give one module to several widgets: a question goes to one of its trace

export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  const kernel = kernels.findLast((one) => path.startsWith(`/api/trace/${one.traceId}`));
  if (!kernel) throw new DOMException('closed', 'AbortError');
  return (await kernel.ask(path, params, signal)) as T;
}

export function query(params: Params): string {
  return JSON.stringify(params);
}
