/** Saved charts: what a panel shows, as a small spec that the store keeps. */

import type { ChartAnswer, ChartStored, NewChart } from './api';
import type { ChartSpec } from './chart';
import { largest } from './charts';
import { send } from './client';
import { seconds, valueOf, type Zone } from './format';
import { hue } from './theme.svelte';

const INK = ['k1', 'acc', 'str', 'lit', 'k2', 'k3'];

/** Stores a chart; its id. */
export async function saveChart(chart: NewChart): Promise<string> {
  return (await send<ChartStored>('POST', '/api/charts', chart)).id;
}

export function lineColor(answer: ChartAnswer, index: number): string {
  const color = answer.lines[index]?.color ?? null;
  return color === null ? (INK[index] ?? 'k4') : hue(color);
}

export function savedSpec(answer: ChartAnswer, zone: Zone): ChartSpec {
  const top = answer.lines.reduce((most, line) => largest(line.values, most), 0);
  return {
    t_s: answer.t_s,
    from_s: seconds(answer.range.from_ns),
    to_s: seconds(answer.range.to_ns),
    lines: answer.lines.map((line, index) => ({ label: line.label, values: line.values, color: lineColor(answer, index) })),
    scale: 'linear',
    low: 0,
    high: top > 0 ? top * 1.15 : 1,
    gaps: answer.gaps,
    marks: answer.marks,
    partial_from_s: answer.partial_from_s,
    format: (value) => (value === 0 ? '0' : valueOf(value, answer.unit)),
    zone,
    timeAxis: true,
    left: 52,
  };
}
