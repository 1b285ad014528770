// fetch as a host call: whatever the Web API takes as a request is read into bytes first, and the host's answer becomes a real Response.

import { abandon, ask, type Site, site } from "./host.ts";
import { FetchError } from "./functions.ts";
import { graft } from "./errors.ts";
import { scope } from "./invocation.ts";
import { multipart, streamOfBlob } from "./bodies.ts";
import { bodyOf, fromBase64, RealHeaders, RealPromise, RealResponse, utf8 } from "./primordials.ts";
import { json } from "./value.ts";

interface Answer {
  status: number;
  status_text: string;
  url: string;
  headers: [string, string][];
  body: string | { $bytea: string } | null;
  redirected: boolean;
}

const NO_BODY = new Set([101, 103, 204, 205, 304]);
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const RealRequest = Request;

/** The global fetch. */
export async function fetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
  const at = site();
  const request = input instanceof RealRequest ? input : undefined;
  const method = (init.method ?? request?.method ?? "GET").toString().toUpperCase();
  const url = absolute(request?.url ?? String(input), at);
  const headers = new RealHeaders(init.headers ?? request?.headers);
  const signal = init.signal ?? request?.signal;
  const redirect = init.redirect ?? request?.redirect ?? "follow";
  signal?.throwIfAborted();
  let body: string | Uint8Array | null = null;
  if (init.body !== undefined && init.body !== null) {
    const read = await bodyOfInit(init.body);
    body = read.body;
    if (read.type && !headers.has("content-type")) headers.set("content-type", read.type);
  } else if (request?.body) {
    body = await bytesOf(new RealResponse(request.body));
  }
  if (body !== null && (method === "GET" || method === "HEAD")) throw graft(new TypeError(`A ${method} request has no body.`), at);
  signal?.throwIfAborted();
  const asked = ask<Answer>("fetch", json({ method, url, headers: [...headers], body: textual(body), redirect }, "A request"), undefined, at);
  return respond(await (signal ? abortable(asked, signal) : asked.answer));
}

function absolute(text: string, at: Site): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw graft(new FetchError("InvalidURL", `fetch takes an absolute URL, not \`${text}\`.`, { url: text }), at);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw graft(new FetchError("InvalidURL", `fetch reaches http: and https: only, not \`${url.protocol}\`.`, { url: text }), at);
  }
  return url.href;
}

function abortable<T>({ n, answer }: { n: number; answer: Promise<T> }, signal: AbortSignal): Promise<T> {
  const { invocation } = scope()!;
  return new RealPromise<T>((resolve, reject) => {
    const abort = () => {
      abandon(invocation, n);
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

async function bytesOf(response: Response): Promise<Uint8Array> {
  return new Uint8Array(await bodyOf(response));
}

async function bodyOfInit(body: BodyInit): Promise<{ body: string | Uint8Array; type: string | null }> {
  if (typeof body === "string") return { body, type: "text/plain;charset=UTF-8" };
  if (body instanceof URLSearchParams) return { body: body.toString(), type: "application/x-www-form-urlencoded;charset=UTF-8" };
  if (body instanceof ArrayBuffer) return { body: new Uint8Array(body.slice(0)), type: null };
  if (ArrayBuffer.isView(body)) return { body: new Uint8Array(body.buffer as ArrayBuffer, body.byteOffset, body.byteLength).slice(), type: null };
  if (body instanceof FormData) body = multipart(body);
  if (body instanceof Blob) return { body: await bytesOf(new RealResponse(streamOfBlob(body))), type: body.type || null };
  if (body instanceof ReadableStream) return { body: await bytesOf(new RealResponse(body)), type: null };
  return { body: String(body), type: "text/plain;charset=UTF-8" };
}

function textual(body: string | Uint8Array | null): string | Uint8Array | null {
  if (body === null) return null;
  if (typeof body === "string") return body.toWellFormed();
  try {
    return strict.decode(body);
  } catch {
    return body;
  }
}

function respond({ status, status_text, url, headers, body, redirected }: Answer): Response {
  const content = body === null || NO_BODY.has(status) ? null : typeof body === "string" ? body : fromBase64(body.$bytea);
  const list = new RealHeaders(headers);
  const response = new RealResponse(content, { status, statusText: status_text, headers: list });
  if (!list.has("content-type")) response.headers.delete("content-type");
  Object.defineProperty(response, "url", { value: url, configurable: true });
  Object.defineProperty(response, "redirected", { value: redirected === true, configurable: true });
  return response;
}
