import { describe, expect, it } from 'vitest';
import { decodeColumns } from '../src/lib/client';
import { linearTicks, logTicks, timeTicks } from '../src/lib/axis';
import { spread } from '../src/lib/EndLabels.svelte';
import { fractions } from '../src/lib/PartsBar.svelte';

describe('parts of a bar', () => {
  it('end at exactly the whole', () => {
    const cuts = fractions([1.61e9, 1.5e9, 5.9e9, 3.78e9, 2.03e9], 14.82e9);
    expect(cuts[0]?.from).toBe(0);
    expect(cuts.at(-1)?.to).toBeCloseTo(1, 12);
    cuts.slice(1).forEach((cut, at) => expect(cut.from).toBe(cuts[at]?.to));
  });
  it('that do not add up are refused, also when the sums are cents', () => {
    expect(() => fractions([0.0149, 0.0062], 0.0239)).toThrow(RangeError);
    expect(() => fractions([1e9, 1], 1e9 - 1e6)).toThrow(RangeError);
    expect(() => fractions([2, -1], 1)).toThrow(RangeError);
    expect(fractions([0.0149, 0.0062, 0.0028], 0.0239)).toHaveLength(3);
    expect(fractions([], 0)).toEqual([]);
  });
});

describe('labels at the ends of lines', () => {
  it('do not cover each other and stay inside', () => {
    const placed = spread([10, 11, 12, 95], 15, 100);
    const sorted = [...placed].sort((a, b) => a - b);
    sorted.slice(1).forEach((at, index) => expect(at - (sorted[index] ?? 0)).toBeGreaterThanOrEqual(15));
    expect(sorted.at(-1)).toBeLessThanOrEqual(100);
  });
});

describe('ticks', () => {
  it('are round, inside, and not too many', () => {
    expect(linearTicks(0, 23, 3)).toEqual([0, 10, 20]);
    expect(logTicks(0.24e9, 7.3e9, 3)).toEqual([3e8, 1e9, 3e9]);
    const ticks = timeTicks(1773090720, 1773112320, 6, 'utc');
    expect(ticks.map((tick) => tick.text)).toEqual(['22:00', '23:00', '00:00', '01:00', '02:00', '03:00']);
  });
});

describe('columnar answers', () => {
  it('become arrays over the body, and keys of objects stay keys', () => {
    const head = JSON.stringify({ t_s: { $f64: [0, 2] }, rows: [{ p50: { $f64: [2, 1] } }], '__proto__x': 1 });
    const bytes = new TextEncoder().encode(head);
    const length = bytes.length + ((8 - ((4 + bytes.length) % 8)) % 8);
    const buffer = new ArrayBuffer(4 + length + 24);
    new DataView(buffer).setUint32(0, length, true);
    new Uint8Array(buffer, 4).fill(32, 0, length);
    new Uint8Array(buffer, 4).set(bytes);
    new Float64Array(buffer, 4 + length).set([1, 2, NaN]);
    const answer = decodeColumns(buffer) as { t_s: Float64Array; rows: { p50: Float64Array }[] };
    expect([...answer.t_s]).toEqual([1, 2]);
    expect(answer.rows[0]?.p50[0]).toBeNaN();
  });
});
