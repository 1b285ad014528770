// Host calls: the one way by which user code reaches the world. `ask` sends a call and promises its answer, `note` sends a one-way
// message, `answer` settles what a reply frame is about.

import { graft, hostError } from "./errors.ts";
import { leave } from "./leftovers.ts";
import type { Header, Wire } from "./frames.ts";
import { type Invocation, type Pending, scope } from "./invocation.ts";
import { captureStackTrace, fromUtf8, hasOwn, mapDelete, mapForEach, mapGet, mapSet, parse, RealError, RealPromise } from "./primordials.ts";
import { later } from "./turns.ts";
import { fitting, revived } from "./value.ts";

const MOST_OPEN = 10_000;
/** Open calls whose places are looked up: a stack's text takes memory. */
const MOST_LOOKED = 200;
const AWAIT = "await it, or hand the work to ctx.waitUntil.";
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

/** Where a call was made: its `stack` shows it. */
export interface Site {
  stack?: string;
}

/** The place of the running code. */
export function site(): Site {
  const here: Site = {};
  captureStackTrace(here);
  return here;
}

/**
 * Send a call. `args` is exact JSON text of an object; `at` is where user code made it, where that is not on the stack any more; a `quiet`
 * one may be left open without a warning. Throws where there is no invocation to make it in.
 */
export function ask<T>(op: string, args: string, tx?: number, at: Site = site(), quiet = false): Asked<T> {
  const here = scope();
  if (here === undefined) {
    throw graft(new RealError(`${shown(op)} works inside a handler only, not while the module is loaded.`), at);
  }
  const { invocation, span } = here;
  if (invocation.ended) {
    throw leave(invocation, graft(new RealError(`${shown(op)} came after the handler had returned, and was not done: ${AWAIT}`), at));
  }
  if (invocation.pending.size >= MOST_OPEN) {
    throw graft(new RangeError(`${shown(op)}: ${MOST_OPEN} calls are open already; await some.`), at);
  }
  fitting(args, shown(op));
  const n = ++invocation.last;
  const answer = new RealPromise<T>((resolve, reject) => {
    mapSet(invocation.pending, n, { op, site: at, quiet, resolve, reject } as Pending);
  });
  wire!.send(header("call", invocation, n, op, tx, span), args);
  return { n, answer };
}

/** Like `ask`, as an async function: errors of the call itself become rejections too. */
export function call<T>(op: string, args: string, tx?: number, at?: Site): Promise<T> {
  try {
    return ask<T>(op, args, tx, at).answer;
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

/**
 * Act on a reply frame: move the clock and settle the call, in a macrotask of its own. `settled` is called when an ended invocation's last
 * call has been answered and what waited for it has run.
 */
export function answer(invocation: Invocation, frame: Header, body: Uint8Array<ArrayBuffer>, settled: (of: Invocation) => void): void {
  invocation.deliver(() => {
    if (invocation.ended && invocation.pending.size <= 1) later(() => settled(invocation));
    const pending = mapGet(invocation.pending, frame.n);
    // Whether a call that was given up is answered all the same is a matter of chance: it is nothing that has happened.
    if (pending === undefined) return;
    if (frame.now > invocation.now) invocation.now = frame.now;
    mapDelete(invocation.pending, frame.n);
    if (hasOwn(frame, "error")) pending.reject(hostError(pending.op, frame.error, pending.site));
    else if (body.length === 0) pending.resolve(undefined);
    else pending.resolve(pending.op === "invoke" ? revived(fromUtf8(body)) : parse(fromUtf8(body)));
  });
}

/** Timers of promises that lost a race are left behind, and that is meant: as many of each race's as can have lost say nothing. */
function hush({ races, pending }: Invocation): void {
  for (let i = 0; i < races.length; i++) {
    const { ns, losers } = races[i]!;
    for (let at = ns.length - 1, left = losers; at >= 0 && left > 0; at--) {
      const timer = mapGet(pending, ns[at]!);
      if (timer === undefined) continue;
      timer.quiet = true;
      left--;
    }
  }
}

function header(t: string, invocation: Invocation, n: number, op: string, tx: number | undefined, span: number | undefined): string {
  const start = `{"t":"${t}","i":${invocation.number},"n":${n},"op":"${op}"`;
  return `${start}${tx === undefined ? "" : `,"tx":${tx}`}${span === undefined ? "" : `,"span":${span}`}}`;
}

/** The handler has settled and nothing is awaited any more: timers are dropped, other open calls the host waits for; each is a warning. */
export function cease(invocation: Invocation): void {
  let looked = 0;
  hush(invocation);
  mapForEach(invocation.pending, ({ op, site, quiet }, n) => {
    const waiting = op === "sleep";
    if (!quiet && ++looked <= MOST_LOOKED) {
      const what = waiting
        ? `${shown(op)} had not run out when the handler returned; what comes after it never runs: ${AWAIT}`
        : `${shown(op)} was still open when the handler returned: ${AWAIT}`;
      leave(invocation, what, site);
    }
    if (waiting) abandon(invocation, n);
  });
  if (looked > MOST_LOOKED) leave(invocation, `${looked - MOST_LOOKED} calls more were open when the handler returned.`);
  invocation.ended = true;
}

function shown(op: string): string {
  if (op === "fetch") return "fetch";
  if (op === "sleep") return "A timer";
  return op === "db.begin" ? "ctx.db.transaction" : `ctx.${op}`;
}
