/** The list a trace was opened from, so that [ and ] walk it. Kept by this tab under a short hash, which the URL has. */

import type { TracesAnswer } from './api';
import { get } from './client';

export interface List {
  title: string;
  href: string; // back to it
  query: Record<string, string>; // of /api/traces
  ids: string[];
  total: number;
}

const KEPT = 50;

function hash(text: string): string {
  let value = 2166136261;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 16777619);
  return (value >>> 0).toString(36);
}

export function keepList(list: Omit<List, 'ids' | 'total'> & Partial<List>): string {
  const key = hash(list.href + JSON.stringify(list.query));
  const names = Object.keys(sessionStorage).filter((name) => name.startsWith('spanbox.list.'));
  if (names.length >= KEPT) names.forEach((name) => sessionStorage.removeItem(name));
  sessionStorage.setItem(`spanbox.list.${key}`, JSON.stringify({ ids: [], total: 0, ...list }));
  return key;
}

export async function readList(key: string, signal: AbortSignal): Promise<List | null> {
  const text = sessionStorage.getItem(`spanbox.list.${key}`);
  if (text === null) return null;
  const list = JSON.parse(text) as List;
  if (list.ids.length === 0) {
    const answer = await get<TracesAnswer>('/api/traces', { ...list.query, limit: 200 }, signal);
    list.ids = answer.rows.map((row) => row.trace_id);
    list.total = answer.total;
    sessionStorage.setItem(`spanbox.list.${key}`, JSON.stringify(list));
  }
  return list;
}
