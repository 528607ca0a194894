/** What uPlot is told: series, scales, and the hatching, marks and budget drawn around them. Knows no component. */

import uPlot from 'uplot';
import type { Gap, Mark } from './api';
import { linearTicks, logTicks, timeTicks } from './axis';
import { seconds, tick, type Zone } from './format';

export interface Line {
  label: string;
  values: ArrayLike<number>; // NaN: nothing there
  color: string; // a token
  width?: number;
  alpha?: number;
  dash?: number[];
}

export interface ChartSpec {
  t_s: ArrayLike<number>;
  from_s: number;
  to_s: number;
  lines: readonly Line[];
  stacked?: boolean; // columns that add up
  band?: { of: [number, number]; color: string; alpha: number } | undefined; // between two lines
  scale: 'linear' | 'log';
  low: number;
  high: number;
  gaps: readonly Gap[];
  marks: readonly Mark[];
  partial_from_s: number | null;
  budget?: number | null;
  format: (value: number) => string;
  zone: Zone;
  timeAxis: boolean;
  left: number; // px before the plot
  ticks?: number;
}

export interface Hooks {
  token: (name: string) => string;
  spec: () => ChartSpec;
  hover: (index: number | null) => void;
  select: (from_s: number, to_s: number) => void;
  zoom: (from_s: number, to_s: number) => void;
}

const FONT = '11px Inter, system-ui, sans-serif';
export const SYNC = 'time';

export function columns(spec: ChartSpec): uPlot.AlignedData {
  const lines = spec.stacked ? cumulated(spec.lines) : spec.lines.map((line) => line.values);
  const partial = spec.partial_from_s;
  const split = partial === null ? -1 : indexFrom(spec.t_s, partial);
  const whole = lines.map((values) => nullable(values, 0, spec.stacked || split < 0 ? values.length : split));
  const filling = spec.stacked || split < 1 ? [] : lines.map((values) => nullable(values, split - 1, values.length));
  return [Array.from(spec.t_s), ...whole, ...filling] as uPlot.AlignedData;
}

function indexFrom(t_s: ArrayLike<number>, at: number): number {
  for (let index = 0; index < t_s.length; index += 1) if ((t_s[index] ?? 0) >= at) return index;
  return -1;
}

function nullable(values: ArrayLike<number>, from: number, to: number): (number | null)[] {
  return Array.from(values, (value, index) => (index < from || index >= to || Number.isNaN(value) ? null : value));
}

/** The tallest first, so that each column is drawn over the one it stands on. */
function cumulated(lines: readonly Line[]): Float64Array[] {
  let below: Float64Array | null = null;
  const tops = lines.map((line) => {
    const base: Float64Array | null = below;
    const top = Float64Array.from(line.values, (value, index) => value + (base === null ? 0 : (base[index] ?? 0)));
    below = top;
    return top;
  });
  return tops.reverse();
}

export function options(width: number, height: number, hooks: Hooks): uPlot.Options {
  const spec = hooks.spec();
  return {
    width,
    height,
    padding: [4, spec.timeAxis ? 15 : 0, spec.timeAxis ? 0 : 3, 0], // half a label of the axis at the right
    legend: { show: false },
    cursor: {
      y: false,
      points: { show: !spec.stacked, size: 6 },
      drag: { x: true, y: false, setScale: false },
      sync: { key: SYNC, setSeries: false },
      bind: { dblclick: () => () => null },
    },
    tzDate: (ts) => new Date(ts * 1000),
    scales: {
      x: { time: false, range: () => [hooks.spec().from_s, hooks.spec().to_s] },
      y: { distr: spec.scale === 'log' ? 3 : 1, range: () => [hooks.spec().low, hooks.spec().high] },
    },
    axes: axes(spec, hooks),
    series: [{}, ...series(spec, hooks)],
    bands: spec.band ? [{ series: [spec.band.of[0] + 1, spec.band.of[1] + 1], fill: () => faded(hooks.token(spec.band?.color ?? 'k2'), spec.band?.alpha ?? 0.2) }] : [],
    hooks: {
      ready: [(plot) => plot.over.addEventListener('mousedown', () => (dragged = plot))],
      drawClear: [(plot) => background(plot, hooks)],
      draw: [(plot) => foreground(plot, hooks)],
      setCursor: [(plot) => hooks.hover(plot.cursor.idx ?? null)],
      setSelect: [(plot) => selected(plot, hooks)],
    },
  };
}

let dragged: uPlot | null = null; // a drag over one plot shows in all: it is meant for the one that it began in

function selected(plot: uPlot, hooks: Hooks): void {
  if (plot !== dragged || plot.select.width < 3) return;
  hooks.select(plot.posToVal(plot.select.left, 'x'), plot.posToVal(plot.select.left + plot.select.width, 'x'));
}

function axes(spec: ChartSpec, hooks: Hooks): uPlot.Axis[] {
  const common = { font: FONT, stroke: () => hooks.token('t3'), ticks: { show: false } };
  return [
    {
      ...common,
      show: spec.timeAxis,
      size: 18,
      gap: 3,
      grid: { show: false },
      splits: (plot) => timeTicks(hooks.spec().from_s, hooks.spec().to_s, Math.max(1, Math.floor(plot.width / 90)), spec.zone).map((tick) => tick.at),
      values: (plot, splits) => {
        const ticks = timeTicks(hooks.spec().from_s, hooks.spec().to_s, Math.max(1, Math.floor(plot.width / 90)), spec.zone);
        return splits.map((at) => ticks.find((tick) => tick.at === at)?.text ?? '');
      },
    },
    {
      ...common,
      size: spec.left,
      gap: 6,
      grid: { stroke: () => hooks.token('line'), width: 1 },
      splits: () => {
        const { low, high, ticks } = hooks.spec();
        return spec.scale === 'log' ? logTicks(low, high, ticks ?? 3) : linearTicks(low, high, ticks ?? 3);
      },
      filter: (_plot, splits) => splits,
      values: (_plot, splits) => splits.map((value) => tick(spec.format(value))),
    },
  ];
}

function series(spec: ChartSpec, hooks: Hooks): uPlot.Series[] {
  const lines = spec.stacked ? [...spec.lines].reverse() : spec.lines;
  const bars = uPlot.paths.bars?.({ size: [0.85, 40, 1], align: 1, gap: 0 });
  const one = (line: Line, filling: boolean): uPlot.Series => ({
    label: line.label,
    stroke: () => (spec.stacked ? 'transparent' : faded(hooks.token(line.color), line.alpha ?? 1)),
    width: spec.stacked ? 0 : (line.width ?? 1.5),
    // uPlot draws those that the filter names also where it shows no others.
    points: spec.stacked ? { show: false } : { show: false, size: 4, width: 0, fill: () => hooks.token(line.color), filter: alone },
    spanGaps: false,
    ...(spec.stacked ? { fill: () => hooks.token(line.color), ...(bars ? { paths: bars } : {}) } : {}),
    ...(filling ? { dash: [2, 3] } : line.dash ? { dash: line.dash } : {}),
  });
  const whole = lines.map((line) => one(line, false));
  const hasFilling = !spec.stacked && spec.partial_from_s !== null && indexFrom(spec.t_s, spec.partial_from_s) >= 1;
  return hasFilling ? [...whole, ...lines.map((line) => one(line, true))] : whole;
}

/** Values without a neighbour: a line through one point cannot be seen. */
function alone(plot: uPlot, index: number): number[] | null {
  const values = plot.data[index] ?? [];
  const found: number[] = [];
  for (let at = 0; at < values.length; at += 1) if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  return found.length > 0 ? found : null;
}

export function faded(color: string, alpha: number): string {
  if (alpha >= 1 || !/^#[0-9a-f]{6}$/i.test(color)) return color;
  return color + Math.round(alpha * 255).toString(16).padStart(2, '0');
}

function box(plot: uPlot): { left: number; top: number; width: number; height: number; px: number } {
  return { ...plot.bbox, px: devicePixelRatio || 1 };
}

/** Hatched where nothing was recorded. */
function background(plot: uPlot, hooks: Hooks): void {
  const { ctx } = plot;
  const { left, top, width, height, px } = box(plot);
  for (const gap of hooks.spec().gaps) {
    const from = Math.max(left, plot.valToPos(seconds(gap.from_ns), 'x', true));
    const to = Math.min(left + width, plot.valToPos(seconds(gap.to_ns), 'x', true));
    if (to > from) hatch(ctx, { left: from, top, width: Math.max(to - from, 2 * px), height }, hooks.token('line2'), px);
  }
  const { partial_from_s, to_s, stacked } = hooks.spec();
  if (stacked && partial_from_s !== null) {
    const from = plot.valToPos(partial_from_s, 'x', true);
    const to = plot.valToPos(to_s, 'x', true);
    ctx.save();
    ctx.strokeStyle = hooks.token('line2');
    ctx.setLineDash([2 * px, 3 * px]);
    ctx.strokeRect(from, top, Math.max(to - from, 3 * px), height);
    ctx.restore();
  }
}

export function hatch(
  ctx: CanvasRenderingContext2D,
  area: { left: number; top: number; width: number; height: number },
  color: string,
  px: number,
): void {
  ctx.save();
  ctx.beginPath();
  ctx.rect(area.left, area.top, area.width, area.height);
  ctx.clip();
  ctx.strokeStyle = color;
  ctx.lineWidth = px;
  ctx.beginPath();
  for (let x = area.left - area.height; x < area.left + area.width; x += 5 * px) {
    ctx.moveTo(x, area.top + area.height);
    ctx.lineTo(x + area.height, area.top);
  }
  ctx.stroke();
  ctx.restore();
}

function foreground(plot: uPlot, hooks: Hooks): void {
  const { ctx } = plot;
  const { left, top, width, height, px } = box(plot);
  const { marks, budget } = hooks.spec();
  ctx.save();
  ctx.lineWidth = px;
  const newest = [...marks].sort((a, b) => seconds(b.at_ns) - seconds(a.at_ns))[0];
  ctx.setLineDash([2 * px, 2 * px]);
  for (const mark of marks) {
    const x = Math.round(plot.valToPos(seconds(mark.at_ns), 'x', true)) + 0.5;
    if (x >= left && x <= left + width) vertical(ctx, x, top, height, hooks.token(mark === newest ? 'warn' : 't3'));
  }
  if (budget != null) {
    const y = Math.round(plot.valToPos(budget, 'y', true)) + 0.5;
    ctx.setLineDash([5 * px, 3 * px]);
    ctx.strokeStyle = hooks.token('t2');
    ctx.beginPath();
    ctx.moveTo(left, y);
    ctx.lineTo(left + width, y);
    ctx.stroke();
  }
  ctx.restore();
}

function vertical(ctx: CanvasRenderingContext2D, x: number, top: number, height: number, color: string): void {
  ctx.strokeStyle = color;
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, top + height);
  ctx.stroke();
}
