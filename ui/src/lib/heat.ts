/** The strip's geometry: where a value is, and what a pixel stands for. Pure functions. */

export interface HeatScale {
  from_s: number;
  to_s: number;
  edges: ArrayLike<number>;
  left: number;
  width: number; // of the plot
  height: number;
}

export interface Selection {
  t0: number; // seconds
  t1: number;
  y0: number | null; // in the unit of y; null: all
  y1: number | null;
}

const low = (scale: HeatScale) => scale.edges[0] ?? 1;
const high = (scale: HeatScale) => scale.edges[scale.edges.length - 1] ?? 2;

export function xOf(scale: HeatScale, at_s: number): number {
  return scale.left + (scale.width * (at_s - scale.from_s)) / (scale.to_s - scale.from_s);
}
export function timeAt(scale: HeatScale, x: number): number {
  return scale.from_s + ((scale.to_s - scale.from_s) * (x - scale.left)) / scale.width;
}
export function yOf(scale: HeatScale, value: number): number {
  return scale.height * (1 - Math.log(value / low(scale)) / Math.log(high(scale) / low(scale)));
}
export function valueAt(scale: HeatScale, y: number): number {
  return low(scale) * (high(scale) / low(scale)) ** (1 - y / scale.height);
}

export function selectionOf(text: string): Selection | null {
  const parts = text.split(',').map((part) => (part === '' ? null : Number(part)));
  const [t0, t1, y0 = null, y1 = null] = parts;
  if (t0 == null || t1 == null || !(t1 > t0) || parts.some((part) => part !== null && !Number.isFinite(part))) return null;
  return { t0, t1, y0, y1 };
}

export function selectionText({ t0, t1, y0, y1 }: Selection): string {
  const times = [t0, t1].map((at) => at.toFixed(3).replace(/\.?0+$/, ''));
  return [...times, ...(y0 === null && y1 === null ? [] : [y0, y1].map((y) => (y === null ? '' : String(Number(y.toPrecision(4))))))].join(',');
}
