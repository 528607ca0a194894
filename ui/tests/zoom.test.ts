import { describe, expect, it } from 'vitest';
import { within, ZOOM_KEYS, zoomBy } from '../src/lib/zoom';

const TOTAL = 1_000_000;
const span = { offset_ns: 200_000, duration_ns: 100_000 };

describe('zoom', () => {
  it('stays within the trace, is never shorter than a microsecond, and is null for all of it', () => {
    for (const [t0, t1] of [[-500, 100], [999_900, 2_000_000], [500_000, 500_000], [0, TOTAL], [-9, TOTAL + 9]] as const) {
      const found = within(t0, t1, TOTAL);
      if (found === null) expect(t1 - t0).toBeGreaterThanOrEqual(TOTAL);
      else {
        expect(found.t0).toBeGreaterThanOrEqual(0);
        expect(found.t1).toBeLessThanOrEqual(TOTAL);
        expect(found.t1 - found.t0).toBeGreaterThanOrEqual(1000);
      }
    }
  });
  it('keeps the selected span in its place, and fits it', () => {
    const all = { t0: 0, t1: TOTAL };
    const near = zoomBy('w', all, span, TOTAL) ?? all;
    expect((250_000 - near.t0) / (near.t1 - near.t0)).toBeCloseTo(0.25);
    expect(near.t1 - near.t0).toBeCloseTo(0.6 * TOTAL);
    expect(zoomBy('z', all, span, TOTAL)).toEqual({ t0: 190_000, t1: 310_000 });
  });
  it('undoes itself: in and out, later and earlier, and 0', () => {
    const begin = { t0: 300_000, t1: 500_000 };
    const close = (key: string, back: string) => {
      const there = zoomBy(key, begin, null, TOTAL) ?? begin;
      expect(there).not.toEqual(begin);
      const found = zoomBy(back, there, null, TOTAL);
      expect(found?.t0).toBeCloseTo(begin.t0);
      expect(found?.t1).toBeCloseTo(begin.t1);
    };
    close('w', 's');
    close('W', 'S');
    close('d', 'a');
    expect(zoomBy('0', begin, span, TOTAL)).toBeNull();
  });
  it('has a meaning for every key it lists', () => {
    for (const [key] of ZOOM_KEYS) if (key !== '0') expect(zoomBy(key, { t0: 450_000, t1: 500_000 }, span, TOTAL)).not.toBeNull();
  });
});
