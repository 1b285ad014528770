// `ctx`: what a handler is given beside its input. The same object shape as in Python; its types are in types/index.d.ts.

import { ctxLog, log } from "./console.ts";
import { db } from "./db.ts";
import { describe, graft } from "./errors.ts";
import { fetch } from "./fetch.ts";
import type { Header } from "./frames.ts";
import { note, site } from "./host.ts";
import { type Invocation, scope, within } from "./invocation.ts";
import { leave, uncaught } from "./leftovers.ts";
import { bytesSlice, fromUtf8, parse, promiseThen, RealError, RealHeaders, RealPromise, stringify } from "./primordials.ts";
import { invoke, push, secret } from "./queue.ts";
import { sleep } from "./timers.ts";
import { json } from "./value.ts";

const queue = Object.freeze({ push: (name: string, payload?: unknown, options?: Parameters<typeof push>[2]) => push(name, payload, options) });
const secrets = Object.freeze({ get: secret });
const trace = Object.freeze({ span });
let env: Readonly<Record<string, string>> = Object.freeze({});

/** Give ctx.env its values. */
export function setEnv(values: Record<string, string>): void {
  env = Object.freeze(values);
}

/** Run `work` inside a span of the trace. */
async function span<T>(name: string, work: () => Promise<T> | T, attributes?: Record<string, unknown>): Promise<T> {
  if (typeof name !== "string" || typeof work !== "function") throw new TypeError("ctx.trace.span takes a name and a function.");
  const here = scope();
  const rest = attributes === undefined ? "" : `,"attributes":${json(attributes, "The attributes of a span")}`;
  const n = note("span.start", `{"name":${stringify(name.toWellFormed())}${rest}}`);
  if (here === undefined || n === 0) return await work();
  try {
    const result = await within({ invocation: here.invocation, span: n }, async () => await work());
    note("span.end", `{"start":${n}}`, here);
    return result;
  } catch (error) {
    const { type, message } = parse(describe(error));
    note("span.end", `{"start":${n},"error":${stringify({ type, message })}}`, here);
    throw error;
  }
}

/** Keep the execution open after its answer, until `work` has settled. A rejection is a warning; the answer has left. */
function waitUntil(work: PromiseLike<unknown>): void {
  const at = site();
  if (typeof (work as { then?: unknown } | null | undefined)?.then !== "function") {
    const called = typeof work === "function" ? "; call the function" : "";
    throw graft(new TypeError(`ctx.waitUntil takes a promise${called}.`), at);
  }
  const invocation = scope()?.invocation;
  if (invocation === undefined) throw graft(new RealError("ctx.waitUntil works inside a handler only."), at);
  if (invocation.ended) {
    throw leave(invocation, graft(new RealError("ctx.waitUntil came after the execution had ended: hand work over before the handler returns."), at));
  }
  invocation.works++;
  const settled = () => {
    if (--invocation.works === 0 && invocation.settled) worked(invocation);
  };
  promiseThen(RealPromise.resolve(work), settled, (reason) => {
    const text = uncaught(invocation, reason, "Work handed to ctx.waitUntil failed: ");
    if (text !== undefined) log("error", `ctx.waitUntil: ${text}`);
    settled();
  });
}

let worked: (invocation: Invocation) => void = () => {};

/** Have `call` called when the last work that was handed to ctx.waitUntil has settled after the handler. */
export function onWorked(call: (invocation: Invocation) => void): void {
  worked = call;
}

/** What bytes hold: the value of JSON, the text of anything else (a form, plain text), null where there are none. */
export function content(bytes: Uint8Array<ArrayBuffer>, read: (text: string) => unknown = parse): unknown {
  if (bytes.length === 0) return null;
  const text = fromUtf8(bytes);
  try {
    return read(text);
  } catch {
    return text;
  }
}

/** The HTTP request (or what stands for one) behind the invocation. */
class Request {
  readonly method: string;
  readonly url: string;
  readonly path: string;
  readonly params: Record<string, string>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #body: { value: unknown } | undefined;
  readonly #query: Record<string, string[]>;
  readonly #rawHeaders: [string, string][];
  #headers: Headers | undefined;

  constructor(header: Header, bytes: Uint8Array<ArrayBuffer>) {
    this.method = header.method;
    this.url = header.url;
    this.path = header.path;
    this.params = header.params ?? {};
    this.#bytes = bytes;
    this.#query = header.query ?? {};
    this.#rawHeaders = header.headers ?? [];
  }

  /** By name: the value, or the values where it was given more than once. */
  get query(): Record<string, string | string[]> {
    const values: Record<string, string | string[]> = {};
    for (const name of Object.keys(this.#query)) values[name] = this.#query[name].length === 1 ? this.#query[name][0] : this.#query[name];
    return values;
  }

  get headers(): Headers {
    return this.#headers ??= new RealHeaders(this.#rawHeaders);
  }

  /** What came: the value of JSON, the text of anything else, null where nothing did. */
  get body(): unknown {
    return (this.#body ??= { value: content(this.#bytes) }).value;
  }

  bytes(): Uint8Array {
    return bytesSlice(this.#bytes, 0, this.#bytes.length);
  }

  text(): string {
    return fromUtf8(this.#bytes);
  }

  json(): unknown {
    return parse(this.text());
  }
}

/** Made anew for each invocation. */
export class Context {
  readonly requestId: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly #header: Header;
  readonly #body: Uint8Array<ArrayBuffer>;
  #request: Request | undefined;

  constructor(header: Header, body: Uint8Array<ArrayBuffer>) {
    this.requestId = header.request_id;
    this.traceId = header.trace_id;
    this.spanId = header.span_id;
    this.#header = header.request ?? {};
    this.#body = body;
  }

  get request(): Request {
    return this.#request ??= new Request(this.#header, this.#body);
  }

  get env(): Readonly<Record<string, string>> {
    return env;
  }

  static {
    Object.assign(Context.prototype, { db, queue, secrets, trace, invoke, sleep, fetch, waitUntil, log: ctxLog });
  }
}
