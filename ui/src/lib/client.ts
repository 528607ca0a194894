/** Talks to the API of the same origin. Knows no page; a failure is always a `Failure`. */

import type { ApiError, SessionStarted } from './api';

export type Params = Readonly<Record<string, string | number | readonly string[] | null | undefined>>;

export class Failure extends Error {
  constructor(
    readonly status: number, // 0: nobody answered
    message: string,
    readonly api: ApiError | null = null,
  ) {
    super(message);
  }

  get isGone(): boolean {
    return this.status === 0;
  }
  get isFilter(): boolean {
    return this.api?.code === 'filter';
  }
}

const COLUMNS = 'application/vnd.spanbox.columns';
let writeToken = '';

export function setWriteToken(token: string): void {
  writeToken = token;
}

export function query(params: Params): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value == null || value === '') continue;
    for (const one of typeof value === 'object' ? value : [value]) search.append(name, String(one));
  }
  const text = search.toString();
  return text ? `?${text}` : '';
}

export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  return answer<T>(await ask(path + query(params), { signal: signal ?? null }));
}

export function post<T>(path: string, body: unknown): Promise<T> {
  return send<T>('POST', path, body);
}

/** A write: the session's write token goes with it. */
export async function send<T>(method: 'POST' | 'DELETE', path: string, body: unknown): Promise<T> {
  const headers = { 'content-type': 'application/json', 'x-spanbox-token': writeToken };
  return answer<T>(await ask(path, { method, headers, body: JSON.stringify(body) }));
}

/** Gives the token of the URL's fragment for the session's cookie, and removes it from the URL and the history. */
export async function exchangeToken(): Promise<void> {
  const given = /^#(?:token=)?([A-Za-z0-9_-]{20,})$/.exec(location.hash);
  if (!given) return;
  history.replaceState(history.state, '', location.pathname + location.search);
  const headers = { authorization: `Bearer ${given[1]}`, 'content-type': 'application/json' };
  const started = await answer<SessionStarted>(await ask('/api/session', { method: 'POST', headers, body: '{}' }));
  setWriteToken(started.write_token);
}

async function ask(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, { ...init, credentials: 'same-origin' });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Failure(0, 'The server does not answer.');
  }
}

async function answer<T>(response: Response): Promise<T> {
  if (!response.ok) throw await failure(response);
  const type = response.headers.get('content-type') ?? '';
  try {
    return (type.startsWith(COLUMNS) ? decodeColumns(await response.arrayBuffer()) : await response.json()) as T;
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    if (error instanceof TypeError) throw new Failure(0, 'The server went away while it answered.');
    throw new Failure(response.status, 'The answer cannot be read.');
  }
}

async function failure(response: Response): Promise<Failure> {
  try {
    const body = (await response.json()) as ApiError;
    return new Failure(response.status, String(body.message), body);
  } catch {
    return new Failure(response.status, `The server answered ${response.status}.`);
  }
}

/** Layout in api.ts, `Columnar`. */
export function decodeColumns(buffer: ArrayBuffer): unknown {
  const headLength = new DataView(buffer).getUint32(0, true);
  const head = new TextDecoder().decode(new Uint8Array(buffer, 4, headLength));
  const body = 4 + headLength;
  return JSON.parse(head, (_key, value: unknown) => {
    const at = (value as { $f64?: unknown } | null)?.$f64;
    if (!Array.isArray(at)) return value;
    const [first, length] = at as [number, number];
    return new Float64Array(buffer, body + first * 8, length);
  });
}
