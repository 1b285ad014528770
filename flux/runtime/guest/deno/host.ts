// Host calls: the one way by which user code reaches the world. `ask` sends a call and promises its answer, `note` sends a one-way
// message, `answer` settles what a reply frame is about.

import { graft, hostError } from "./errors.ts";
import type { Header, Wire } from "./frames.ts";
import { type Invocation, type Pending, scope } from "./invocation.ts";
import { captureStackTrace, fromUtf8, hasOwn, mapDelete, mapGet, mapSet, parse, RealError, RealPromise } from "./primordials.ts";
import { fitting } from "./value.ts";

const MOST_OPEN = 10_000;
let wire: Wire | undefined;

/** Give the calls their wire. Works once. */
export function connect(to: Wire): void {
  wire ??= to;
}

/** A call in flight: its number, and the promise of its result (parsed JSON). */
export interface Asked<T> {
  n: number;
  answer: Promise<T>;
}

/** Send a call. `args` is exact JSON text of an object. Throws where there is no invocation to make it in. */
export function ask<T>(op: string, args: string, tx?: number): Asked<T> {
  const site: { stack?: string } = {};
  captureStackTrace(site);
  const here = scope();
  if (here === undefined) {
    throw graft(new RealError(`${shown(op)} works inside a handler only, not while the module is loaded.`), site);
  }
  const { invocation, span } = here;
  if (invocation.ended) {
    throw graft(new RealError(`${shown(op)} came after the handler had returned: await what the function does.`), site);
  }
  if (invocation.pending.size >= MOST_OPEN) {
    throw graft(new RangeError(`${shown(op)}: ${MOST_OPEN} calls are open already; await some.`), site);
  }
  fitting(args, shown(op));
  const n = ++invocation.last;
  const answer = new RealPromise<T>((resolve, reject) => {
    mapSet(invocation.pending, n, { op, site, resolve, reject } as Pending);
  });
  wire!.send(header("call", invocation, n, op, tx, span), args);
  return { n, answer };
}

/** Like `ask`, as an async function: errors of the call itself become rejections too. */
export function call<T>(op: string, args: string, tx?: number): Promise<T> {
  try {
    return ask<T>(op, args, tx).answer;
  } catch (error) {
    return RealPromise.reject(error);
  }
}

/** Send a one-way message; returns its number, or 0 where there is no invocation that it could belong to. What is logged before a hang is seen. */
export function note(op: string, args: string, to = scope()): number {
  if (to === undefined || to.invocation.ended) return 0;
  const n = ++to.invocation.last;
  wire!.send(header("note", to.invocation, n, op, undefined, to.span), args);
  if (op === "log") wire!.flush();
  return n;
}

/** Give up a call: the host stops it, no answer will come. */
export function abandon(invocation: Invocation, n: number): void {
  if (mapDelete(invocation.pending, n) && !invocation.ended) wire!.send(`{"t":"abort","i":${invocation.number},"n":${n}}`);
}

/** Act on a reply frame: move the clock and settle the call, in a macrotask of its own. */
export function answer(invocation: Invocation, frame: Header, body: Uint8Array<ArrayBuffer>): void {
  invocation.deliver(() => {
    if (frame.now > invocation.now) invocation.now = frame.now;
    const pending = mapGet(invocation.pending, frame.n);
    if (pending === undefined) return;
    mapDelete(invocation.pending, frame.n);
    if (hasOwn(frame, "error")) pending.reject(hostError(pending.op, frame.error, pending.site));
    else pending.resolve(body.length === 0 ? undefined : parse(fromUtf8(body)));
  });
}

function header(t: string, invocation: Invocation, n: number, op: string, tx: number | undefined, span: number | undefined): string {
  const start = `{"t":"${t}","i":${invocation.number},"n":${n},"op":"${op}"`;
  return `${start}${tx === undefined ? "" : `,"tx":${tx}`}${span === undefined ? "" : `,"span":${span}`}}`;
}

function shown(op: string): string {
  if (op === "fetch") return "fetch";
  if (op === "sleep") return "A timer";
  return op === "db.begin" ? "ctx.db.transaction" : `ctx.${op}`;
}
