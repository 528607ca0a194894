import { describe, expect, it } from 'vitest';
import * as filter from '../src/lib/filter';

describe('the highlighter', () => {
  it('loses no character, whatever the text', () => {
    for (const text of ['model == "gpt-5" and ttft > 2s', '"open', '`odd name` == 3', '§ \u0000 <script>', 'x ~ "a\\"b" or', "'it\\'s'", '']) {
      expect(filter.tokens(text).map((token) => token.text).join('')).toBe(text);
    }
  });
  it('tells names, operators, strings and literals apart', () => {
    const kinds = filter.tokens('ttft > 2s and "refund" in output').filter((token) => token.kind !== 'space');
    expect(kinds.map((token) => token.kind)).toEqual(['name', 'operator', 'literal', 'operator', 'string', 'operator', 'name']);
  });
});

describe('clauses', () => {
  it('are added once, and an or is put in parentheses', () => {
    expect(filter.withClause('', 'a == 1')).toBe('a == 1');
    expect(filter.withClause('b == 2', 'a == 1')).toBe('b == 2 and a == 1');
    expect(filter.withClause('b == 2 and a == 1', 'a == 1')).toBe('b == 2 and a == 1');
    expect(filter.withClause('b == 2 or c == 3', 'a == 1')).toBe('(b == 2 or c == 3) and a == 1');
  });
  it('an and inside a string or parentheses is none of theirs', () => {
    expect(filter.clauses('"a and b" in output and any(children, x == 1 and y == 2)')).toEqual(['"a and b" in output', 'any(children, x == 1 and y == 2)']);
  });
  it('are taken out', () => expect(filter.withoutClause('a == 1 and b == 2', 'a == 1')).toBe('b == 2'));
  it('several values of one column become a list, and one again', () => {
    const two = filter.toggled('tenant == "acme" and x == 1', 'tenant == "globex"', ['"acme"']);
    expect(two).toBe('x == 1 and tenant in ["acme", "globex"]');
    expect(filter.toggled(two, 'tenant == "acme"', ['"acme"', '"globex"'])).toBe('x == 1 and tenant == "globex"');
    expect(filter.toggled('tenant == "acme"', 'tenant == "acme"', ['"acme"'])).toBe('');
  });
  it('values are quoted so that they stay values', () => {
    expect(filter.quoted('" or 1 == 1 or "\n')).toBe('"\\" or 1 == 1 or \\"\\n"');
    expect(filter.clauses(`x == ${filter.quoted('a" or "b')}`)).toEqual([`x == ${filter.quoted('a" or "b')}`]);
    expect(filter.named('my attribute')).toBe('`my attribute`');
  });
});
