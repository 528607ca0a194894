/**
 * One call as a cassette: what was asked and what came back, as JSON, for a test that answers instead of the provider.
 *
 *     {"version": 1, "interactions": [{"request": {…, "body": input}, "response": {…, "body": output}}]}
 *
 * Bodies are what the span recorded, whole; JSON is passed on as it is written, so that no number changes.
 */

import type { Attribute, Payload, PayloadPage, SpanAnswer } from './api';

export type More = (column: string, offset: number) => Promise<PayloadPage | null>;

/** All of a long text. Throws when a part of it does not come: half a text would pass for the whole. */
export async function wholeText(payload: Payload | undefined, more: More): Promise<string> {
  let text = payload?.text ?? '';
  let offset = payload?.next_offset ?? null;
  while (payload && offset !== null) {
    const page = await more(payload.column, offset);
    if (page === null) throw new Error('a part of the text did not come');
    text += page.text;
    offset = page.next_offset;
  }
  return text;
}

export async function cassette(answer: SpanAnswer, more: More): Promise<string> {
  const body = async (column: string): Promise<string> => {
    const payload = answer.payloads.find((one) => one.column === column);
    if (!payload) return 'null';
    const text = await wholeText(payload, more);
    return payload.media === 'json' ? text : JSON.stringify(text);
  };
  const { span } = answer;
  const pick = (isWanted: (one: Attribute) => boolean) => Object.fromEntries(answer.attributes.filter(isWanted).map((one) => [one.name, one.value]));
  const request = { name: span.name, kind: span.kind, ...pick((one) => REQUEST.has(one.name) || one.name.startsWith('gen_ai.request.')) };
  const response = { status: span.status, ...pick((one) => RESPONSE.has(one.name)) };
  return `{"version": 1, "interactions": [{\n"request": ${withBody(request, await body('input'))},\n"response": ${withBody(response, await body('output'))}\n}]}\n`;
}

const REQUEST = new Set(['provider', 'model', 'model_request', 'operation', 'tool_name']);
const RESPONSE = new Set(['error_type', 'error_message', 'finish_reason', 'input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_write_tokens', 'reasoning_tokens', 'duration_ns', 'ttft_ns', 'tpot_ns']);

function withBody(head: object, body: string): string {
  return `${JSON.stringify(head).slice(0, -1)}, "body": ${body}}`;
}
