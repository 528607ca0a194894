/**
 * The URL is the state: path and parameters, readable by every component, changed through here only.
 *
 * A change of filter, range, brush or span pushes history (`go`, `set`); cursors and zoom replace it (`replace`).
 */

import { DEFAULT_FROM, isRelative, pinned, type RangeText } from './range';

export const SHARED = ['q', 'from', 'to', 'vs', 'live', 'tz'] as const;
export type Changes = Readonly<Record<string, string | null>>;

/** On a trace's page `vs` may be another trace, which is that page's own. */
export function isTraceId(text: string): boolean {
  return /^[0-9a-f]{8,32}$/.test(text);
}

class Router {
  path = $state('/');
  search = $state('');
  readonly params = $derived(new URLSearchParams(this.search));

  private readonly sharedText = $derived(
    JSON.stringify({ q: this.get('q'), ...this.range, vs: this.vs, tz: this.get('tz') }),
  );
  /** What every question to the server is asked with. The same object until one of them changes: cursors do not ask again. */
  readonly shared = $derived(JSON.parse(this.sharedText) as Record<string, string>);

  get(name: string): string {
    return this.params.get(name) ?? '';
  }
  get range(): RangeText {
    return { from: this.get('from') || DEFAULT_FROM, to: this.get('to') || 'now' };
  }
  /** The time that is compared with. */
  get vs(): string {
    return isTraceId(this.get('vs')) ? '' : this.get('vs');
  }
  get isLive(): boolean {
    return this.get('live') === '1';
  }
  get zone(): 'utc' | 'local' {
    return this.get('tz') === 'local' ? 'local' : 'utc';
  }

  /** The address of another page, which keeps the shared parameters. */
  href(path: string, own: Changes = {}): string {
    const next = new URLSearchParams();
    for (const name of SHARED) if (this.params.has(name)) next.set(name, name === 'vs' ? this.vs : this.get(name));
    if (next.get('vs') === '') next.delete('vs');
    return path + searchOf(apply(next, own));
  }
  go(path: string, own: Changes = {}): void {
    this.open(this.href(path, own));
  }
  open(href: string): void {
    history.pushState(null, '', href);
    this.read();
  }
  set(changes: Changes): void {
    const href = this.with(changes);
    if (href !== location.pathname + location.search) this.open(href);
  }
  replace(changes: Changes): void {
    history.replaceState(history.state, '', this.with(changes));
    this.read();
  }
  setRange(range: RangeText): void {
    this.set(this.isLive && isRelative(range) ? { ...range } : { ...pinned(range, Date.now()), live: null });
  }
  toggleLive(): void {
    if (this.isLive) this.set({ ...pinned(this.range, Date.now()), live: null });
    else this.set({ live: '1', to: 'now', from: isRelative(this.range) ? this.range.from : DEFAULT_FROM });
  }

  /** Reads the address bar. A first visit is live; a relative range that is not live becomes absolute. */
  start(): void {
    addEventListener('popstate', () => this.read());
    this.read();
    if (!this.params.has('from') && !this.params.has('to')) this.replace({ from: DEFAULT_FROM, to: 'now', live: '1' });
    else if (!this.isLive && isRelative(this.range)) this.replace(pinned(this.range, Date.now()) as unknown as Changes);
  }

  private with(changes: Changes): string {
    return this.path + searchOf(apply(new URLSearchParams(this.search), changes));
  }
  private read(): void {
    this.path = location.pathname;
    this.search = location.search;
  }
}

function apply(params: URLSearchParams, changes: Changes): URLSearchParams {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === '') params.delete(name);
    else params.set(name, value);
  }
  return params;
}

/** Readable: what may stand in a query string as it is, does. */
export function searchOf(params: URLSearchParams): string {
  const text = params.toString().replaceAll('%3A', ':').replaceAll('%2C', ',').replaceAll('%2F', '/');
  return text ? `?${text}` : '';
}

export const router = new Router();

/** For links: a plain click stays in the page, every other one is the browser's. */
export function follow(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest?.('a[href]');
  if (!(link instanceof HTMLAnchorElement) || event.defaultPrevented) return;
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.target || link.origin !== location.origin || link.hasAttribute('download')) return;
  event.preventDefault();
  router.open(link.pathname + link.search);
}
