import { describe, expect, it } from 'vitest';
import { query } from '../src/lib/client';
import { selectionOf, selectionText } from '../src/lib/heat';
import * as range from '../src/lib/range';

const NOW = Date.parse('2026-03-10T03:12:00Z');

describe('time ranges', () => {
  it('a relative range becomes absolute, so that a link shows the same later', () => {
    expect(range.pinned({ from: '-6h', to: 'now' }, NOW)).toEqual({ from: '2026-03-09T21:12:00Z', to: '2026-03-10T03:12:00Z' });
  });
  it('an absolute one stays as it is', () => {
    const fixed = { from: '2026-03-09T21:12:00Z', to: '2026-03-10T03:12:00Z' };
    expect(range.pinned(fixed, NOW + 1e9)).toBe(fixed);
  });
  it.each([
    ['-90m', NOW - 90 * 6e4],
    ['now', NOW],
    ['2026-03-09', Date.parse('2026-03-09T00:00Z')],
    ['1773112320000000000', 1773112320000],
  ])('%s is understood', (text, ms) => expect(range.momentOf(text, NOW)).toBe(ms));
  it('what is no moment is none', () => {
    for (const text of ['soon', '-6', '2026-13-40', '<b>', '-6x']) expect(range.momentOf(text, NOW)).toBeNull();
  });
  it.each([
    ['6h', { from: '-6h', to: 'now' }],
    ['15 min', { from: '-15m', to: 'now' }],
    ['yesterday 14:00..15:00', { from: '2026-03-09T14:00:00Z', to: '2026-03-09T15:00:00Z' }],
    ['2026-03-01..2026-03-02', { from: '2026-03-01T00:00:00Z', to: '2026-03-03T00:00:00Z' }],
    ['yesterday', { from: '2026-03-09T00:00:00Z', to: '2026-03-10T00:00:00Z' }],
  ])('a person can type %s', (text, expected) => expect(range.parseRange(text, NOW)).toEqual(expected));
  it('nonsense and reversed ranges are refused', () => {
    for (const text of ['', 'abc', 'yesterday 15:00..14:00', '2026-03-02..2026-03-01']) expect(range.parseRange(text, NOW)).toBeNull();
  });
  it('wider is twice as long and ends where it did', () => {
    expect(range.scaled({ from: '-6h', to: 'now' }, 2, NOW)).toEqual({ from: '-12h', to: 'now' });
    const wide = range.scaled({ from: '2026-03-09T00:00:00Z', to: '2026-03-09T02:00:00Z' }, 2, NOW);
    expect(wide).toEqual({ from: '2026-03-08T23:00:00Z', to: '2026-03-09T03:00:00Z' });
  });
});

describe('what is asked', () => {
  it('leaves out what is not set, and repeats lists', () => {
    expect(query({ q: 'a == "b"', from: '', vs: null, by: ['model', 'tenant'], n: 0 })).toBe('?q=a+%3D%3D+%22b%22&by=model&by=tenant&n=0');
  });
  it('a brush survives the URL', () => {
    const brush = { t0: 1773112320.5, t1: 1773115920, y0: 5e9, y1: null };
    expect(selectionOf(selectionText(brush))).toEqual(brush);
    expect(selectionText({ ...brush, y0: null })).toBe('1773112320.5,1773115920');
  });
  it('a damaged brush is none', () => {
    for (const text of ['', '1', '2,1', 'a,b', '1,2,x,3']) expect(selectionOf(text)).toBeNull();
  });
});
