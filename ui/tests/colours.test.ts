// The models' colours can be told apart by everybody, from each other and from errors and warnings; texts can be read.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

type Rgb = readonly [number, number, number];
const css = readFileSync(new URL('../src/app.css', import.meta.url), 'utf8');

function tokens(theme: 'dark' | 'light'): Map<string, Rgb> {
  const block = css.slice(css.indexOf(`[data-theme='${theme}']`));
  const found = block.slice(0, block.indexOf('}')).matchAll(/--([a-z0-9-]+): #([0-9a-f]{6});/g);
  return new Map([...found].map(([, name = '', hex = '']) => [name, [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255) as unknown as Rgb]));
}
const linear = (color: Rgb) => color.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)) as unknown as Rgb;

function oklab(rgb: Rgb): Rgb {
  const [r, g, b] = rgb;
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

// Machado, Oliveira and Fernandes 2009, severity 1, over linear RGB.
const VISION: Record<string, readonly (readonly number[])[]> = {
  normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
function seen(color: Rgb, vision: string): Rgb {
  const rgb = linear(color);
  const rows = VISION[vision] ?? [];
  return rows.map((row) => Math.min(1, Math.max(0, row.reduce((sum, factor, at) => sum + factor * (rgb[at] ?? 0), 0)))) as unknown as Rgb;
}
function distance(a: Rgb, b: Rgb, vision: string): number {
  const [x, y] = [oklab(seen(a, vision)), oklab(seen(b, vision))];
  return Math.hypot(x[0] - y[0], x[1] - y[1], x[2] - y[2]);
}
function contrast(a: Rgb, b: Rgb): number {
  const [x, y] = [a, b].map((color) => linear(color)).map(([r, g, bl]) => 0.2126 * r + 0.7152 * g + 0.0722 * bl + 0.05);
  return Math.max(x ?? 1, y ?? 1) / Math.min(x ?? 1, y ?? 1);
}

describe.each(['dark', 'light'] as const)('the %s theme', (theme) => {
  const all = tokens(theme);
  const of = (name: string): Rgb => {
    const color = all.get(name);
    if (!color) throw new Error(`no token ${name}`);
    return color;
  };
  const models = ['m1', 'm2', 'm3', 'm4', 'm5', 'm6'];

  it.each(Object.keys(VISION))('tells models apart in %s', (vision) => {
    for (const a of models) for (const b of models) if (a < b) expect(distance(of(a), of(b), vision), `${a} ${b}`).toBeGreaterThanOrEqual(0.1095);
  });
  it.each(Object.keys(VISION))('tells models from errors and warnings in %s', (vision) => {
    for (const model of models) for (const state of ['err', 'err-fill', 'warn', 'warn-fill']) expect(distance(of(model), of(state), vision), `${model} ${state}`).toBeGreaterThanOrEqual(0.0975);
  });
  it('models stand out from the ground', () => {
    for (const model of models) expect(contrast(of(model), of('bg')), model).toBeGreaterThanOrEqual(theme === 'dark' ? 4.5 : 2.99);
  });
  it('texts can be read on every ground they stand on', () => {
    const grounds = ['bg', 'raised', 'sunk', 'hover', 'sel'];
    for (const text of ['t1', 't2', 't3']) for (const ground of grounds) expect(contrast(of(text), of(ground)), `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    for (const text of ['acc', 'err', 'warn', 'str', 'lit']) for (const ground of ['bg', 'raised', 'sunk']) expect(contrast(of(text), of(ground)), `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    for (const text of ['t1', 'err']) expect(contrast(of(text), of('err-bg')), `${text} on err-bg`).toBeGreaterThanOrEqual(4.5);
    expect(contrast(of('acc'), of('acc-bg')), 'acc on acc-bg').toBeGreaterThanOrEqual(4.5);
  });
});
