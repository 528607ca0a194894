/** The time that a waterfall shows, in ns from its trace's start: the same keys on the page and in notebooks. */

import type { SpanRow } from './api';

export interface Zoom {
  t0: number;
  t1: number;
}
type At = Pick<SpanRow, 'offset_ns' | 'duration_ns'> | null;
const LEAST_NS = 1000;

/** Within the trace, and long enough to be seen; null: all of it. */
export function within(t0: number, t1: number, totalNs: number): Zoom | null {
  const length = Math.min(totalNs, Math.max(LEAST_NS, t1 - t0));
  const from = Math.min(Math.max(0, t0), totalNs - length);
  return length >= totalNs ? null : { t0: from, t1: from + length };
}

/** What the keys make of it. Around the selected span where it is in view, else around the middle. */
export function zoomBy(key: string, { t0, t1 }: Zoom, at: At, totalNs: number): Zoom | null {
  const length = t1 - t0;
  const scaled = (factor: number) => {
    const middle = at && at.offset_ns >= t0 && at.offset_ns <= t1 ? at.offset_ns + (at.duration_ns ?? 0) / 2 : (t0 + t1) / 2;
    const place = Math.min(Math.max(middle, t0), t1);
    const share = (place - t0) / length;
    return within(place - length * factor * share, place + length * factor * (1 - share), totalNs);
  };
  const panned = (share: number) => within(t0 + length * share, t1 + length * share, totalNs);
  switch (key) {
    case 'w':
      return scaled(0.6);
    case 's':
      return scaled(1 / 0.6);
    case 'a':
      return panned(-0.2);
    case 'd':
      return panned(0.2);
    case 'W':
      return scaled(0.2);
    case 'S':
      return scaled(5);
    case 'A':
      return panned(-0.8);
    case 'z': {
      if (!at) return within(t0, t1, totalNs);
      const took = Math.max(LEAST_NS, at.duration_ns ?? totalNs - at.offset_ns);
      return within(at.offset_ns - took * 0.1, at.offset_ns + took * 1.1, totalNs);
    }
    default:
      return null;
  }
}

export const ZOOM_KEYS: readonly (readonly [key: string, label: string])[] = [
  ['w', 'zoom in'],
  ['s', 'zoom out'],
  ['a', 'earlier'],
  ['d', 'later'],
  ['W', 'zoom in fast'],
  ['S', 'zoom out fast'],
  ['A', 'much earlier'],
  ['0', 'the whole trace'],
  ['z', 'zoom to the span'],
];
