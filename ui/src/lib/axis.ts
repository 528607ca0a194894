/** Where axes have their ticks, and what stands beside them. Pure functions. */

import { clockShort, dateOf, type Zone } from './format';

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000];

/** Round times between two moments, at most `most` of them. */
export function timeTicks(fromS: number, toS: number, most: number, zone: Zone): { at: number; text: string }[] {
  const step = STEPS_S.find((size) => (toS - fromS) / size <= most) ?? Math.ceil((toS - fromS) / most);
  const shift = zone === 'local' ? -new Date(fromS * 1000).getTimezoneOffset() * 60 : 0;
  const ticks: { at: number; text: string }[] = [];
  for (let at = Math.ceil((fromS + shift) / step) * step - shift; at <= toS && ticks.length < 100; at += step) {
    ticks.push({ at, text: tickText(at, step, zone) });
  }
  return ticks;
}

function tickText(at: number, step: number, zone: Zone): string {
  const date = dateOf(at * 1000, zone);
  if (step >= 2592000) return date.slice(0, 7);
  if (step >= 86400) return date.slice(5);
  const time = clockShort(at * 1000, zone);
  if (step < 60) return `${time}:${String(Math.floor(at) % 60).padStart(2, '0')}`;
  return time;
}

/** Round values over a linear scale, about `about` of them. */
export function linearTicks(low: number, high: number, about = 3): number[] {
  if (!(high > low)) return [low];
  const raw = (high - low) / about;
  const magnitude = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * magnitude).find((size) => size >= raw) ?? 10 * magnitude;
  const ticks: number[] = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) ticks.push(Number((n * step).toPrecision(12)));
  return ticks;
}

/** 1, 3, 10, … or powers of ten, between two values of a log scale. */
export function logTicks(low: number, high: number, most = 4): number[] {
  for (const ladder of [[1, 2, 5], [1, 3], [1]]) {
    const ticks: number[] = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const step of ladder) {
        const value = step * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) ticks.push(Number(value.toPrecision(6)));
      }
    }
    if (ticks.length <= most || ladder.length === 1) {
      const every = Math.max(1, Math.ceil(ticks.length / most));
      return ticks.filter((_, index) => index % every === 0);
    }
  }
  return [];
}

export interface Stretch {
  from: number;
  to: number;
}
export const BREAK_PX = 28; // what a folded stretch takes

const NARROW_PX = 620;
const NAMES_PX = 372;

/** Where the time axis of a tree of this width begins, and how long it is: names, and where there is room figures, are before it. */
export function timeColumn(width: number): { isNarrow: boolean; left: number; plot: number } {
  const isNarrow = width < NARROW_PX;
  const left = isNarrow ? Math.round(width * 0.5) : NAMES_PX;
  return { isNarrow, left, plot: Math.max(40, width - left - 16) };
}

/** From times to pixels. A folded stretch of time takes BREAK_PX, whatever its length. */
export function timeScale(plot: number, zoom: { t0: number; t1: number }, folded: Stretch | null): (ns: number) => number {
  const whole = Math.max(1, zoom.t1 - zoom.t0);
  if (folded === null) return (ns) => (plot * (ns - zoom.t0)) / whole;
  const length = folded.to - folded.from;
  const perNs = (plot - BREAK_PX) / Math.max(1, whole - length);
  const at = (folded.from - zoom.t0) * perNs;
  return (ns) => {
    if (ns <= folded.from) return (ns - zoom.t0) * perNs;
    return ns >= folded.to ? at + BREAK_PX + (ns - folded.to) * perNs : at + (BREAK_PX * (ns - folded.from)) / length;
  };
}

/** Round values over a scale with a folded stretch: none inside it. */
export function brokenTicks(zoom: { t0: number; t1: number }, folded: Stretch | null, about: number): number[] {
  if (folded === null) return linearTicks(zoom.t0, zoom.t1, about);
  const live = Math.max(1, zoom.t1 - zoom.t0 - (folded.to - folded.from));
  return [
    [zoom.t0, folded.from],
    [folded.to, zoom.t1],
  ].flatMap(([from = 0, to = 0]) => (to > from ? linearTicks(from, to, Math.max(1, (about * (to - from)) / live)) : []));
}
