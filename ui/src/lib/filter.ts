/** The filter as text: its words for the highlighter, and clauses put in and taken out by clicks. Pure functions. */

import type { Scalar } from './api';

export type TokenKind = 'name' | 'operator' | 'string' | 'literal' | 'space' | 'wrong';
export interface Token {
  kind: TokenKind;
  text: string;
  at: number;
}

const WORDS = /^(?:and|or|not|in|any|all|count|children|descendants|parent|ancestors|siblings)$/;
const LITERALS = /^(?:true|false|none)$/;
const PATTERN =
  /(\s+)|("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)|(`[^`]*`?)|(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?Z?|\$?-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?(?:ns|us|ms|s|m|h|d)?)|([A-Za-z_][A-Za-z0-9_.]*)|(==|!=|<=|>=|[<>~()[\],])|([\s\S])/gy;

export function tokens(text: string): Token[] {
  const found: Token[] = [];
  PATTERN.lastIndex = 0;
  for (let match = PATTERN.exec(text); match && match[0] !== ''; match = PATTERN.exec(text)) {
    found.push({ kind: kindOf(match), text: match[0], at: match.index });
  }
  return found;
}

function kindOf(match: RegExpExecArray): TokenKind {
  if (match[1]) return 'space';
  if (match[2]) return 'string';
  if (match[3]) return 'name';
  if (match[4]) return 'literal';
  if (match[5]) return WORDS.test(match[5]) ? 'operator' : LITERALS.test(match[5]) ? 'literal' : 'name';
  return match[6] ? 'operator' : 'wrong';
}

/** The clauses that `and` joins at the outermost level; null when an `or` stands there. */
export function clauses(text: string): string[] | null {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (const token of tokens(text)) {
    if (token.text === '(' || token.text === '[') depth += 1;
    if (token.text === ')' || token.text === ']') depth -= 1;
    if (depth !== 0 || token.kind !== 'operator') continue;
    if (token.text === 'or') return null;
    if (token.text === 'and') {
      parts.push(text.slice(start, token.at).trim());
      start = token.at + 3;
    }
  }
  parts.push(text.slice(start).trim());
  return parts.filter((part) => part !== '');
}

export function withClause(text: string, clause: string): string {
  if (clause.trim() === '') return text.trim();
  if (clauses(clause) === null) clause = `(${clause.trim()})`;
  const present = clauses(text);
  if (present === null) return `(${text.trim()}) and ${clause}`;
  return present.includes(clause) ? text.trim() : [...present, clause].join(' and ');
}

export function withoutClause(text: string, clause: string): string {
  const present = clauses(text);
  return present === null ? text : present.filter((one) => one !== clause).join(' and ');
}

/** One value of a column switched on or off; several of one column become `in [...]`. */
export function toggled(text: string, filter: string, values: readonly string[]): string {
  const present = clauses(text);
  const literal = literalOf(filter);
  if (present === null || literal === null) {
    return present?.includes(filter) ? withoutClause(text, filter) : withClause(text, filter);
  }
  const name = filter.slice(0, filter.indexOf(' == '));
  const own = present.filter((one) => one.startsWith(`${name} == `) || one.startsWith(`${name} in [`));
  const rest = present.filter((one) => !own.includes(one));
  const chosen = values.includes(literal) ? values.filter((one) => one !== literal) : [...values, literal];
  if (chosen.length === 1) rest.push(`${name} == ${chosen[0]}`);
  if (chosen.length > 1) rest.push(`${name} in [${chosen.join(', ')}]`);
  return rest.join(' and ');
}

/** The right side of `column == literal`; null when the clause is of another shape. */
export function literalOf(filter: string): string | null {
  const words = tokens(filter).filter((token) => token.kind !== 'space');
  return words.length === 3 && words[1]?.text === '==' ? (words[2]?.text ?? null) : null;
}

export function quoted(value: Scalar): string {
  if (value === null) return 'none';
  if (typeof value !== 'string') return String(value);
  const escape = (c: string) => (c === '\n' ? '\\n' : c === '\r' ? '\\r' : c === '\t' ? '\\t' : `\\${c}`);
  return `"${value.replace(/["\\\n\r\t]/g, escape)}"`;
}

export function named(column: string): string {
  return /^[A-Za-z_][A-Za-z0-9_.]*$/.test(column) ? column : `\`${column.replaceAll('`', '')}\``;
}
