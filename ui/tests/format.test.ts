import { describe, expect, it } from 'vitest';
import * as format from '../src/lib/format';

const plain = (text: string) => text.replaceAll('\u2009', ' ');

describe('durations', () => {
  it.each([
    [870, '870 ns'],
    [14_300, '14.3 µs'],
    [17_700_000, '17.7 ms'],
    [280_000_000, '280 ms'],
    [5_900_000_000, '5.90 s'],
    [14_820_000_000, '14.82 s'],
    [124_000_000_000, '2 m 04 s'],
    [4_320_000_000_000, '1 h 12 m'],
    [999_600_000, '1.00 s'],
    [0, '0 ns'],
    [null, '—'],
    [NaN, '—'],
    [-5_000_000, '−5.00 ms'],
  ])('%s ns is %s', (ns, text) => expect(plain(format.duration(ns))).toBe(text));

  it('a column has the unit of its largest value', () => {
    const unit = format.durationUnit(1_400_000_000);
    expect(plain(format.durationOf(985_000_000, unit))).toBe('0.98 s');
    expect(plain(format.durationOf(1_400_000_000, unit))).toBe('1.40 s');
  });
  it('never says nothing of what is very short in a long column', () => {
    expect(format.durationIn(12, 's')).toBe('< 0.01');
    expect(format.durationIn(0, 's')).toBe('0.00');
  });
});

describe('money', () => {
  it.each([
    [0.0239, '$0.0239'],
    [20.8, '$20.80'],
    [1204, '$1,204'],
    [0, '$0'],
    [0.00001, '< $0.0001'],
    [0.99999, '$1.00'],
    [null, '—'],
  ])('%s is %s', (usd, text) => expect(format.money(usd)).toBe(text));
  it('is missing, never zero, when no price is known', () => expect(format.money(undefined)).toBe('—'));
});

describe('counts, shares and changes', () => {
  it.each([
    [18_204, '18,204'],
    [-3, '−3'],
    [null, '—'],
  ])('count %s', (n, text) => expect(format.count(n)).toBe(text));
  it.each([
    [18_204, '18.2 K'],
    [41_200_000, '41.2 M'],
    [999, '999'],
    [1284, '1,284'],
    [2_000_000, '2 M'],
  ])('compact %s', (n, text) => expect(plain(format.compact(n))).toBe(text));
  it.each([
    [0.061, '6.1 %'],
    [0.71, '71 %'],
    [1, '100 %'],
    [0, '0 %'],
    [0.0006, '0.06 %'],
    [0.9996, '99.9 %'],
    [0.00000001, '< 0.01 %'],
  ])('percent %s', (share, text) => expect(plain(format.percent(share))).toBe(text));
  it.each([
    [3.1, '×3.1'],
    [1.24, '+24 %'],
    [0.5, '−50 %'],
    [14.4, '×14'],
  ])('ratio %s', (times, text) => expect(plain(format.ratio(times))).toBe(text));
  it('a difference has a sign, and minus is no hyphen', () => {
    expect(format.signed(-0.13, format.score(0.13))).toBe('−0.13');
    expect(format.signed(0.02, format.score(0.02))).toBe('+0.02');
  });
  it('p is never stars', () => {
    expect(format.probability(0.0004)).toBe('p < 0.001');
    expect(format.probability(0.004)).toBe('p 0.004');
  });
  it.each([
    [18_400_000_000, '18.4 GB'],
    [812, '812 B'],
  ])('bytes %s', (n, text) => expect(plain(format.bytes(n))).toBe(text));
  it('axes drop zeros that say nothing', () => {
    expect(plain(format.tick(format.duration(3e9)))).toBe('3 s');
    expect(plain(format.tick(format.duration(1.5e9)))).toBe('1.5 s');
    expect(format.tick('$10.00')).toBe('$10');
    expect(format.tick('100')).toBe('100');
  });
});

describe('moments', () => {
  const day = Date.parse('2026-03-10T12:00:00Z');
  it('keeps nanoseconds that a double would lose', () => {
    expect(format.millis('1773112302123456789')).toBe(1773112302123);
  });
  it('shows the date when it is not today', () => {
    expect(format.clock(Date.parse('2026-03-10T03:11:42Z'), 'utc', day)).toBe('03:11:42');
    expect(format.clock(Date.parse('2026-03-09T03:11:42Z'), 'utc', day)).toBe('2026-03-09 03:11:42');
  });
  it('an interval over midnight stays short', () => {
    expect(format.interval(Date.parse('2026-03-09T21:12:00Z'), Date.parse('2026-03-10T03:12:00Z'), 'utc', day)).toBe('21:12–03:12');
  });
});
