// setTimeout, setInterval and ctx.sleep as host calls: time passes in the host, and a timer's end is a reply like any other.

import { abandon, ask, site } from "./host.ts";
import { scope, type Scope } from "./invocation.ts";
import { mapDelete, mapGet, mapSet, ObjectDefineProperty, promiseThen, ReflectApply } from "./primordials.ts";
import { report } from "./console.ts";

interface Timer {
  scope: Scope;
  n: number;
}

const timers: Map<number, Timer> = new Map();
let last = 0;

function milliseconds(value: unknown): number {
  const number = Number(value);
  return number >= 0 && number <= 2 ** 31 ? number : number > 2 ** 31 ? 2 ** 31 : 0;
}

function start(id: number, ms: number, repeat: boolean, run: () => unknown, at = site(), quiet = false): void {
  const asked = ask("sleep", `{"ms":${ms}}`, undefined, at, quiet);
  mapSet(timers, id, { scope: scope()!, n: asked.n });
  promiseThen(asked.answer, () => {
    if (mapGet(timers, id) === undefined) return;
    if (!repeat) mapDelete(timers, id);
    try {
      run();
    } catch (error) {
      report(error);
    }
    if (repeat && mapGet(timers, id) !== undefined && !scope()!.invocation.ended) start(id, ms, true, run, at);
  }, (error) => report(error));
}

function timer(repeat: boolean, quiet = false) {
  return (callback: unknown, ms?: unknown, ...args: unknown[]): number => {
    if (typeof callback !== "function") throw new TypeError(`${repeat ? "setInterval" : "setTimeout"} takes a function.`);
    const id = ++last;
    start(id, milliseconds(ms), repeat, () => ReflectApply(callback as () => unknown, globalThis, args as []), site(), quiet);
    return id;
  };
}

function clear(id: unknown): void {
  const timer = mapGet(timers, Number(id));
  if (timer === undefined) return;
  mapDelete(timers, Number(id));
  abandon(timer.scope.invocation, timer.n);
}

/** Wait `ms` milliseconds. */
export async function sleep(ms: number): Promise<void> {
  await ask("sleep", `{"ms":${milliseconds(ms)}}`).answer;
}

/** Replace the realm's timers. Called once, before user code. */
export function installTimers(): void {
  const define = (target: object, name: string, value: unknown) =>
    ObjectDefineProperty(target, name, { value, writable: true, configurable: true, enumerable: false });
  define(globalThis, "setTimeout", timer(false));
  define(globalThis, "setInterval", timer(true));
  define(globalThis, "clearTimeout", clear);
  define(globalThis, "clearInterval", clear);
  define(AbortSignal, "timeout", (ms: number) => {
    const controller = new AbortController();
    const expire = () => controller.abort(new DOMException("Signal timed out.", "TimeoutError"));
    timer(false, true)(expire, ms);
    return controller.signal;
  });
}
