// What a handler returns, as a `done` frame: a Response with status, headers and body, or a plain value as JSON.

import type { Wire } from "./frames.ts";
import type { Invocation } from "./invocation.ts";
import { bodyOf, headersForEach, RealResponse, stringify } from "./primordials.ts";
import { json, JSONError } from "./value.ts";

/** Make the frame's parts from `value`; throws where it can't be sent. */
export async function finished(invocation: Invocation, value: Response): Promise<Parameters<Wire["send"]>> {
  if (value.status < 200) throw new TypeError("The handler returned Response.error(), which has no status.");
  if (value.bodyUsed) throw new TypeError("The handler returned a Response whose body has been read already.");
  const body = value.body === null ? new Uint8Array(0) : new Uint8Array(await invocation.native(() => bodyOf(value)));
  let headers = "";
  headersForEach(value.headers, (content: string, name: string) => {
    headers += `${headers && ","}[${stringify(name)},${stringify(content)}]`;
  });
  return [`{"t":"done","i":${invocation.number},"status":${value.status},"headers":[${headers}]}`, body];
}

/** Whether `value` is a Response. */
export function isResponse(value: unknown): value is Response {
  return value instanceof RealResponse;
}

/** A plain return value as JSON text. */
export function returned(value: unknown): string {
  if (value instanceof ReadableStream || value instanceof Blob || value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    throw new JSONError("The handler returned bytes or a stream: wrap it in `new Response(...)`.");
  }
  return json(value, "What the handler returned");
}
