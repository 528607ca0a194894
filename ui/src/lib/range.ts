/** The `from` and `to` of the URL: relative (`-6h`, `now`) or UTC ISO. Pure functions over milliseconds since 1970. */

export interface RangeText {
  from: string;
  to: string;
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };

export const PRESETS: readonly { from: string; label: string }[] = [
  { from: '-15m', label: 'Last 15 min' },
  { from: '-1h', label: 'Last hour' },
  { from: '-6h', label: 'Last 6 h' },
  { from: '-24h', label: 'Last 24 h' },
  { from: '-3d', label: 'Last 3 days' },
  { from: '-7d', label: 'Last 7 days' },
  { from: '-30d', label: 'Last 30 days' },
  { from: '-365d', label: 'Last 365 days' },
];
export const DEFAULT_FROM = '-6h';

export function momentOf(text: string, nowMs: number): number | null {
  if (text === 'now' || text === '') return nowMs;
  const relative = /^-(\d+(?:\.\d+)?)([smhdw])$/.exec(text);
  if (relative) return nowMs - Number(relative[1]) * (UNIT_MS[relative[2] ?? ''] ?? NaN);
  if (/^\d{17,20}$/.test(text)) return Number(BigInt(text) / 1_000_000n);
  const iso = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?Z?$/.exec(text);
  if (!iso) return null;
  const at = Date.parse(`${iso[1]}T${iso[2] ?? '00:00'}Z`);
  return Number.isNaN(at) ? null : at;
}

export function isRelative(range: RangeText): boolean {
  return range.from.startsWith('-') || range.to === 'now';
}

export function iso(ms: number): string {
  return new Date(ms).toISOString().replace(/\.000Z$/, 'Z');
}

export function resolve(range: RangeText, nowMs: number): { from: number; to: number } {
  const to = momentOf(range.to, nowMs) ?? nowMs;
  const from = momentOf(range.from, nowMs) ?? to - 6 * 36e5;
  return { from: Math.min(from, to), to };
}

/** Absolute, so that a link shows the same to whoever opens it later. */
export function pinned(range: RangeText, nowMs: number): RangeText {
  if (!isRelative(range)) return range;
  const { from, to } = resolve(range, nowMs);
  return { from: iso(Math.floor(from / 1000) * 1000), to: iso(Math.ceil(to / 1000) * 1000) };
}

/** Twice or half as long: towards the past while it ends now, else around its middle. */
export function scaled(range: RangeText, factor: number, nowMs: number): RangeText {
  const { from, to } = resolve(range, nowMs);
  const length = Math.max(1000, (to - from) * factor);
  if (range.to === 'now') return { from: relative(length), to: 'now' };
  const middle = (from + to) / 2;
  return { from: iso(Math.round(middle - length / 2)), to: iso(Math.round(middle + length / 2)) };
}

/** What a range is compared with: as long a time, ending at a mark. Whole seconds, so that it can be told again. */
export function before(markMs: number, range: { from: number; to: number }): string {
  const length = Math.max(36e5, Math.round((range.to - range.from) / 6e4) * 6e4);
  const end = Math.floor(markMs / 1000) * 1000;
  return `${iso(end - length)}..${iso(end)}`;
}

function relative(ms: number): string {
  for (const unit of ['d', 'h', 'm'] as const) {
    const size = UNIT_MS[unit] ?? 1;
    if (ms >= size && ms % size === 0) return `-${ms / size}${unit}`;
  }
  return `-${Math.round(ms / 1000)}s`;
}

export function label(range: RangeText): string | null {
  if (range.to !== 'now') return null;
  const preset = PRESETS.find((one) => one.from === range.from);
  const relativeText = /^-(\d+)([smhdw])$/.exec(range.from);
  return preset?.label ?? (relativeText ? `Last ${relativeText[1]} ${relativeText[2]}` : null);
}

/** What a person types: `6h`, `yesterday 14:00..15:00`, `2026-11-01..2026-11-02`. Null: not understood. UTC. */
export function parseRange(text: string, nowMs: number): RangeText | null {
  const bare = text.trim().toLowerCase();
  const length = /^-?(?:last )?(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)[a-z]*$/.exec(bare);
  if (length) return { from: `-${length[1]}${(length[2] ?? 'h')[0]}`, to: 'now' };
  const [left, right] = bare.split(/\s*(?:\.\.|–|\bto\b)\s*/);
  if (left === undefined) return null;
  const day = /^(today|yesterday|\d{4}-\d\d-\d\d)(?:[t ]+(\d\d?:\d\d(?::\d\d)?)z?)?$/.exec(left);
  if (!day) return null;
  const start = dayStart(day[1] ?? '', nowMs);
  const from = start + timeOfDay(day[2] ?? '00:00');
  const to = right === undefined ? (day[2] ? from + 36e5 : start + 864e5) : end(right, start, nowMs);
  return to === null || !(to > from) ? null : { from: iso(from), to: iso(to) };
}

function dayStart(day: string, nowMs: number): number {
  if (day === 'today' || day === 'yesterday') return Math.floor(nowMs / 864e5) * 864e5 - (day === 'today' ? 0 : 864e5);
  return Date.parse(`${day}T00:00Z`);
}

function timeOfDay(text: string): number {
  const [hours = 0, minutes = 0, secs = 0] = text.split(':').map(Number);
  return ((hours * 60 + minutes) * 60 + secs) * 1000;
}

function end(text: string, start: number, nowMs: number): number | null {
  if (/^\d\d?:\d\d(:\d\d)?$/.test(text)) return start + timeOfDay(text);
  const day = /^(today|yesterday|\d{4}-\d\d-\d\d)(?:[t ]+(\d\d?:\d\d(?::\d\d)?)z?)?$/.exec(text);
  if (text === 'now') return nowMs;
  if (!day) return null;
  return dayStart(day[1] ?? '', nowMs) + (day[2] ? timeOfDay(day[2]) : 864e5);
}
