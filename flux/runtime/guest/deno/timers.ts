// setTimeout, setInterval and ctx.sleep as host calls: time passes in the host, and a timer's end is a reply like any other.

import { abandon, ask, site } from "./host.ts";
import { type Invocation, scope } from "./invocation.ts";
import {
  functionText,
  isArray,
  mapDelete,
  mapGet,
  mapSet,
  matches,
  ObjectDefineProperty,
  promiseThen,
  RealPromise,
  ReflectApply,
  slice,
} from "./primordials.ts";
import { report } from "./console.ts";

/** `() => controller.abort()` and its like: what is left undone when such a timer is dropped is nothing. */
const ABORTS = /^(?:\(\)\s*=>\s*\{?|function\s*\w*\(\)\s*\{)\s*(?:return\s+)?[\w$.?]+\.abort\([^;{}]*\)\s*;?\s*\}?$/;

/** Timers that the code which runs now has set without a pause, oldest first, and whose they are. */
let fresh: { invocation: Invocation; ns: number[] } | undefined;

function remember(invocation: Invocation, n: number): void {
  if (fresh?.invocation !== invocation) {
    const mine = fresh = { invocation, ns: [] };
    promiseThen(RealPromise.resolve(), () => {
      if (fresh === mine) fresh = undefined;
    });
  }
  fresh.ns[fresh.ns.length] = n;
}

/** A race of `members` promises begins. Their timers have just been set: the last ones of this turn. */
function raced(members: number): void {
  if (fresh === undefined) return;
  const { invocation: { races }, ns } = fresh;
  races[races.length] = { ns: slice(ns, -members), losers: members - 1 };
}

function milliseconds(value: unknown): number {
  const number = Number(value);
  return number >= 0 && number <= 2 ** 31 ? number : number > 2 ** 31 ? 2 ** 31 : 0;
}

function start(id: number, ms: number, repeat: boolean, run: () => unknown, at = site(), quiet = false): void {
  const asked = ask("sleep", `{"ms":${ms}}`, undefined, at, quiet);
  const { invocation } = scope()!;
  const timers = invocation.timers ??= new Map();
  mapSet(timers, id, asked.n);
  remember(invocation, asked.n);
  promiseThen(asked.answer, () => {
    if (mapGet(timers, id) === undefined) return;
    if (!repeat) mapDelete(timers, id);
    try {
      run();
    } catch (error) {
      report(error);
    }
    if (repeat && mapGet(timers, id) !== undefined && !invocation.ended) start(id, ms, true, run, at);
  }, (error) => report(error));
}

function timer(repeat: boolean, quiet = false) {
  return (callback: unknown, ms?: unknown, ...args: unknown[]): number => {
    if (typeof callback !== "function") throw new TypeError(`${repeat ? "setInterval" : "setTimeout"} takes a function.`);
    const invocation = scope()?.invocation;
    // Where there is none, `start` refuses.
    const id = invocation === undefined ? 0 : ++invocation.timer;
    const silent = quiet || (!repeat && matches(ABORTS, functionText(callback)));
    start(id, milliseconds(ms), repeat, () => ReflectApply(callback as () => unknown, globalThis, args as []), site(), silent);
    return id;
  };
}

/** A timer of the invocation that the running code belongs to: others have numbers of their own. */
function clear(id: unknown): void {
  const invocation = scope()?.invocation;
  const timers = invocation?.timers;
  const n = timers && mapGet(timers, Number(id));
  if (n === undefined) return;
  mapDelete(timers!, Number(id));
  abandon(invocation!, n);
}

/** Wait `ms` milliseconds. */
export async function sleep(ms: number): Promise<void> {
  const asked = ask("sleep", `{"ms":${milliseconds(ms)}}`);
  remember(scope()!.invocation, asked.n);
  await asked.answer;
}

/** Replace the realm's timers. Called once, before user code. */
export function installTimers(): void {
  const define = (target: object, name: string, value: unknown) =>
    ObjectDefineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
  define(globalThis, "setTimeout", timer(false));
  define(globalThis, "setInterval", timer(true));
  define(globalThis, "clearTimeout", clear);
  define(globalThis, "clearInterval", clear);
  for (const name of ["race", "any"] as const) {
    const original = RealPromise[name];
    define(RealPromise, name, {
      [name](this: unknown, members: unknown) {
        raced(isArray(members) ? members.length : 2);
        return ReflectApply(original as (members: unknown) => unknown, this as typeof Promise, [members]);
      },
    }[name]);
  }
  define(AbortSignal, "timeout", (ms: number) => {
    const controller = new AbortController();
    const expire = () => controller.abort(new DOMException("Signal timed out.", "TimeoutError"));
    timer(false, true)(expire, ms);
    return controller.signal;
  });
}
