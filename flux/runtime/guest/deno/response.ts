// What a handler returns, as a `done` frame: a Response with status, headers and body, or a plain value as JSON.

import type { Wire } from "./frames.ts";
import type { Invocation } from "./invocation.ts";
import { bodyOf, bodyUsedOf, headersForEach, headersOf, RealResponse, statusOf, streamOf, stringify } from "./primordials.ts";
import { fitting, json, JSONError } from "./value.ts";

const LONGEST_HEADERS = 64 * 1024;

/** Make the frame's parts from `value`, its header without its end; throws where it can't be sent. */
export async function finished(invocation: Invocation, value: Response): Promise<Parameters<Wire["send"]>> {
  const status = statusOf(value);
  if (status < 200) throw new TypeError("The handler returned Response.error(), which has no status.");
  if (bodyUsedOf(value)) throw new TypeError("The handler returned a Response whose body has been read already.");
  const body = streamOf(value) === null ? new Uint8Array(0) : new Uint8Array(await bodyOf(value));
  let headers = "";
  headersForEach(headersOf(value), (content: string, name: string) => {
    headers += `${headers && ","}[${stringify(name)},${stringify(content)}]`;
  });
  if (headers.length > LONGEST_HEADERS) throw new TypeError(`The handler returned a Response with more than ${LONGEST_HEADERS} characters of headers.`);
  return [`{"t":"done","i":${invocation.number},"status":${status},"headers":[${headers}]`, fitting(body, "The Response's body")];
}

/** Whether `value` is a Response. */
export function isResponse(value: unknown): value is Response {
  return value instanceof RealResponse;
}

/** A plain return value as JSON text. */
export function returned(value: unknown): string {
  if (value instanceof ReadableStream || value instanceof Blob) {
    throw new JSONError("The handler returned a stream or a Blob: wrap it in `new Response(...)`.");
  }
  return fitting(json(value, "What the handler returned"), "What the handler returned");
}
