/** From the overview's answers to what TimeChart draws. Pure functions. */

import type { CostAnswer, FailuresAnswer, QualityAnswer, TimeAxis } from './api';
import type { ChartSpec } from './chart';
import { money, percent, score, seconds, type Zone } from './format';

const KIND_COLORS = ['err-fill', 'k1', 'k2', 'k3', 'k4'];

type Ranged = TimeAxis & { range: { from_ns: string; to_ns: string } };

function base(answer: Ranged, zone: Zone) {
  return {
    t_s: answer.t_s,
    from_s: seconds(answer.range.from_ns),
    to_s: seconds(answer.range.to_ns),
    gaps: answer.gaps,
    marks: answer.marks,
    partial_from_s: answer.partial_from_s,
    zone,
    timeAxis: true,
    left: 44,
    scale: 'linear' as const,
  };
}

export function largest(values: ArrayLike<number>, floor = 0): number {
  let most = floor;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index] ?? NaN;
    if (value > most) most = value;
  }
  return most;
}

export function costSpec(answer: CostAnswer, zone: Zone): ChartSpec {
  const top = Math.max(largest(answer.rolling), largest(answer.short), answer.budget_usd_per_1k ?? 0);
  return {
    ...base(answer, zone),
    lines: [
      { label: '24 h mean', values: answer.rolling, color: 't1', width: 2 },
      { label: 'bucket', values: answer.short, color: 't2', width: 1, alpha: 0.8 },
    ],
    budget: answer.budget_usd_per_1k,
    low: 0,
    high: top > 0 ? top * 1.15 : 1,
    format: (value) => (value === 0 ? '0' : money(value)),
  };
}

export function qualitySpec(answer: QualityAnswer, zone: Zone): ChartSpec {
  let [low, high] = [Math.min(answer.min, answer.max), Math.max(answer.min, answer.max)];
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  if (low >= 0 && high <= 1) high = 1;
  const room = (high - low) * 0.05;
  return {
    ...base(answer, zone),
    lines: [
      { label: 'mean', values: answer.mean, color: 't1', width: 1.5 },
      { label: 'upper', values: answer.high, color: 't2', width: 0, alpha: 0 },
      { label: 'lower', values: answer.low, color: 't2', width: 0, alpha: 0 },
    ],
    band: { of: [1, 2], color: 't2', alpha: 0.3 },
    low: low - room,
    high: high + room,
    format: score,
  };
}

export function failureColor(index: number): string {
  return KIND_COLORS[Math.min(index, KIND_COLORS.length - 1)] ?? 'k4';
}

export function failureSpec(answer: FailuresAnswer, zone: Zone): ChartSpec {
  const sums = Float64Array.from(answer.t_s, (_, index) => answer.kinds.reduce((sum, kind) => sum + (kind.rate[index] || 0), 0));
  return {
    ...base(answer, zone),
    lines: answer.kinds.map((kind, index) => ({ label: kind.name, values: kind.rate, color: failureColor(index) })),
    stacked: true,
    low: 0,
    high: Math.min(1.02, Math.max(largest(sums) * 1.15, 0.01)),
    format: percent,
  };
}
