/**
 * Numbers as the page writes them: a unit on every value behind a thin space, three significant digits, an em dash for
 * what is missing. Pure functions.
 */

import type { TimeNs } from './api';

const THIN = '\u2009';
const MINUS = '\u2212';
export const MISSING = '—';

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

export type DurationUnit = 'ns' | 'µs' | 'ms' | 's' | 'm' | 'h';
const UNIT_NS: Readonly<Record<DurationUnit, number>> = { ns: 1, µs: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 };

/** Three significant digits, never an exponent: 5.90, 17.7, 280. */
export function significant(value: number, digits = 3): string {
  if (value === 0) return '0';
  const magnitude = Math.floor(Math.log10(Math.abs(value)) + 1e-12);
  const decimals = Math.max(0, digits - 1 - magnitude);
  const text = Math.abs(value).toFixed(Math.min(decimals, 12));
  return (value < 0 ? MINUS : '') + (Math.abs(value) >= 1000 ? grouped.format(Math.round(Math.abs(value))) : text);
}

/** The unit in which a column is written whose largest value this is. */
export function durationUnit(largestNs: number): DurationUnit {
  if (largestNs < 999.5) return 'ns';
  if (largestNs < 999.5e3) return 'µs';
  if (largestNs < 999.5e6) return 'ms';
  if (largestNs < 60e9) return 's';
  return largestNs < 3600e9 ? 'm' : 'h';
}

export function duration(ns: number | null | undefined): string {
  if (ns == null || Number.isNaN(ns)) return MISSING;
  const size = Math.abs(ns);
  const sign = ns < 0 ? MINUS : '';
  const unit = durationUnit(size);
  if (unit === 'm' || unit === 'h') return sign + clockLength(size, unit);
  if (unit === 'ns') return `${sign}${Math.round(size)}${THIN}ns`;
  return `${sign}${unit === 's' ? (size / 1e9).toFixed(2) : significant(size / UNIT_NS[unit])}${THIN}${unit}`;
}

/** For axes: round values without their zeros. */
export function tick(text: string): string {
  return text.replace(/(\d)\.(\d*?)0+(?=\D|$)/, (_all, whole: string, rest: string) => (rest ? `${whole}.${rest}` : whole));
}

function clockLength(ns: number, unit: 'm' | 'h'): string {
  const [small, smallName] = unit === 'm' ? [1e9, 's'] : [6e10, 'm'];
  const all = Math.round(ns / small);
  return `${grouped.format(Math.floor(all / 60))}${THIN}${unit} ${String(all % 60).padStart(2, '0')}${THIN}${smallName}`;
}

/** The same for a column that has many values: minutes and hours are counted in a unit that a number alone can say. */
export function columnUnit(largestNs: number): DurationUnit {
  const unit = durationUnit(largestNs);
  return unit === 'm' ? 's' : unit === 'h' ? 'm' : unit;
}

/** A value of a column that has one unit; without the unit, which stands in the column's head. */
export function durationIn(ns: number | null | undefined, unit: DurationUnit): string {
  if (ns == null || Number.isNaN(ns)) return MISSING;
  const value = ns / UNIT_NS[unit];
  if (value !== 0 && Math.abs(value) < 0.01) return value < 0 ? `> ${MINUS}0.01` : '< 0.01';
  return value >= 1000 ? grouped.format(value) : value >= 100 ? value.toFixed(0) : value.toFixed(unit !== 's' && value >= 10 ? 1 : 2);
}

/** The same with its unit: cells of one column stay comparable. */
export function durationOf(ns: number | null | undefined, unit: DurationUnit): string {
  if (ns == null || Number.isNaN(ns)) return MISSING;
  return unit === 'h' || unit === 'ns' ? duration(ns) : durationIn(ns, unit) + THIN + unit;
}

export function money(usd: number | null | undefined): string {
  if (usd == null || Number.isNaN(usd)) return MISSING;
  const size = Math.abs(usd);
  const sign = usd < 0 ? MINUS : '';
  if (size === 0) return '$0';
  if (size < 0.00005) return `${sign}< $0.0001`;
  if (size < 0.99995) return `${sign}$${size.toFixed(4)}`;
  return size < 999.995 ? `${sign}$${size.toFixed(2)}` : `${sign}$${grouped.format(size)}`;
}

export function count(value: number | null | undefined): string {
  if (value == null || Number.isNaN(value)) return MISSING;
  return (value < 0 ? MINUS : '') + grouped.format(Math.abs(value));
}

/** For axes, facets and the strip: 18 K, 41.2 M. */
export function compact(value: number | null | undefined): string {
  if (value == null || Number.isNaN(value)) return MISSING;
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : '';
  if (size < 999.5) return sign + (Number.isInteger(size) ? String(size) : significant(size));
  if (size < 9999.5) return count(value);
  const [unit, name] = size < 999.5e3 ? [1e3, 'K'] : size < 999.5e6 ? [1e6, 'M'] : [1e9, 'G'];
  const scaled = size / unit;
  return `${sign}${scaled >= 100 ? scaled.toFixed(0) : trimZero(scaled.toFixed(1))}${THIN}${name}`;
}

export function bytes(value: number | null | undefined): string {
  if (value == null || Number.isNaN(value)) return MISSING;
  const names = ['B', 'KB', 'MB', 'GB', 'TB'];
  let size = value;
  let at = 0;
  while (size >= 999.5 && at < names.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${at === 0 ? size : significant(size)}${THIN}${names[at]}`;
}

export function percent(share: number | null | undefined): string {
  if (share == null || Number.isNaN(share)) return MISSING;
  return `${percentDigits(share * 100)}${THIN}%`;
}

/** A share that is compared with another: whole percents are enough. */
export function share(part: number | null | undefined): string {
  if (part == null || Number.isNaN(part)) return MISSING;
  return part > 0 && part < 0.005 ? `< 1${THIN}%` : `${Math.round(part * 100)}${THIN}%`;
}

function percentDigits(value: number): string {
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : '';
  if (size === 0 || size === 100) return sign + size;
  if (size < 0.005) return '< 0.01';
  if (size < 0.1) return sign + size.toFixed(2);
  if (size < 9.95 || (size > 99 && size < 100)) return sign + Math.min(size, 99.9).toFixed(1);
  return sign + size.toFixed(0);
}

export function score(value: number | null | undefined): string {
  if (value == null || Number.isNaN(value)) return MISSING;
  if (Number.isInteger(value)) return count(value);
  return (value < 0 ? MINUS : '') + (Math.abs(value) < 10 ? Math.abs(value).toFixed(2) : significant(Math.abs(value)));
}

export function signed(value: number, text: string): string {
  const bare = text.startsWith(MINUS) ? text.slice(1) : text;
  return value > 0 ? `+${bare}` : value < 0 ? MINUS + bare : bare;
}

/** A change of a value: ×3.1, below 2: +24 %. */
export function ratio(times: number | null | undefined): string {
  if (times == null || !Number.isFinite(times)) return MISSING;
  if (times >= 2) return `×${times >= 100 ? count(times) : times >= 10 ? times.toFixed(0) : times.toFixed(1)}`;
  return signed(times - 1, `${Math.abs(Math.round((times - 1) * 100))}${THIN}%`);
}

export function probability(p: number): string {
  if (p < 0.001) return 'p < 0.001';
  return `p ${p < 0.1 ? trimZero(p.toFixed(3)) : p.toFixed(2)}`;
}

function trimZero(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

// --- moments ---------------------------------------------------------------------------------------------------------

export type Zone = 'utc' | 'local';

/** Milliseconds since 1970: what Date takes. */
export function millis(at: TimeNs): number {
  return Number(BigInt(at) / 1_000_000n);
}

export function seconds(at: TimeNs): number {
  return Number(BigInt(at) / 1_000n) / 1e6;
}

function fields(ms: number, zone: Zone): { date: string; time: string; ms: string } {
  const at = new Date(ms);
  const shifted = zone === 'utc' ? at : new Date(ms - at.getTimezoneOffset() * 60_000);
  const iso = Number.isNaN(shifted.getTime()) ? '????-??-??T??:??:??.???' : shifted.toISOString();
  return { date: iso.slice(0, 10), time: iso.slice(11, 19), ms: iso.slice(20, 23) };
}

/** 03:11:42, with the date when it is not today's. */
export function clock(at: TimeNs | number, zone: Zone, nowMs = Date.now()): string {
  const ms = typeof at === 'number' ? at : millis(at);
  const { date, time } = fields(ms, zone);
  return date === fields(nowMs, zone).date ? time : `${date} ${time}`;
}

export function clockShort(ms: number, zone: Zone): string {
  return fields(ms, zone).time.slice(0, 5);
}

export function clockMillis(at: TimeNs, zone: Zone): string {
  const { date, time, ms } = fields(millis(at), zone);
  return date === fields(Date.now(), zone).date ? `${time}.${ms}` : `${date} ${time}.${ms}`;
}

export function dateOf(ms: number, zone: Zone): string {
  return fields(ms, zone).date;
}

/** 21:12–03:12, with dates where they differ from today's. */
export function interval(fromMs: number, toMs: number, zone: Zone, nowMs = Date.now()): string {
  const [from, to, now] = [fields(fromMs, zone), fields(toMs, zone), fields(nowMs, zone)];
  const short = (f: { date: string; time: string }) => f.time.slice(0, 5);
  if (from.date === to.date) {
    return `${from.date === now.date ? '' : `${from.date} `}${short(from)}–${short(to)}`;
  }
  if (toMs - fromMs < 86_400_000 && to.date === now.date) return `${short(from)}–${short(to)}`;
  return `${from.date} ${short(from)} – ${to.date === now.date ? '' : `${to.date} `}${short(to)}`;
}

export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s}${THIN}s ago`;
  if (s < 3600) return `${Math.round(s / 60)}${THIN}min ago`;
  return s < 172_800 ? `${Math.round(s / 3600)}${THIN}h ago` : `${Math.round(s / 86_400)}${THIN}d ago`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** A value of a finding, a score or a change, by its unit. */
export function valueOf(value: number | null | undefined, unit: string): string {
  if (unit === 'ns') return duration(value);
  if (unit === 'usd') return money(value);
  if (unit === 'rate') return percent(value);
  return unit === 'score' ? score(value) : compact(value);
}
