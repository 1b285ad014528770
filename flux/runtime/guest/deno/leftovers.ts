// What a handler leaves behind: work that nobody awaits, and rejections that nobody catches. Each piece is a warning of the execution that
// names the line. ctx.waitUntil is how to mean it: the answer leaves, and the execution ends when the work has settled.

import { describe, placeIn } from "./errors.ts";
import type { Invocation } from "./invocation.ts";
import {
  captureStackTrace,
  mapClear,
  mapForEach,
  mapGet,
  mapSet,
  ObjectDefineProperty,
  parse,
  RealError,
  RealPromise,
  ReflectApply,
  stringify,
  weakGet,
  weakSet,
} from "./primordials.ts";

/** Different warnings that one invocation keeps. */
const MOST = 50;
const LONGEST = 2_000;

/** Errors that have been told already. */
const told: WeakMap<object, boolean> = new WeakMap();
/** Where a promise was rejected with something that has no stack of its own. */
const sites: WeakMap<object, { stack?: string }> = new WeakMap();

/** Keep a warning of the invocation: `what` was left, at `site`. An error is both; it is returned, and not told again. */
export function leave<T extends string | Error>(invocation: Invocation, what: T, site?: { stack?: string }): T {
  let text: string;
  if (typeof what === "string") text = what;
  else {
    weakSet(told, what, true);
    text = what.message;
    site ??= what;
  }
  keep(invocation, text, placeIn(site?.stack));
  return what;
}

function keep(invocation: Invocation, text: string, place: string): void {
  const short = (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text).toWellFormed();
  const warning = `"text":${stringify(short)},"frames":${place}`;
  const times = mapGet(invocation.left, warning);
  if (times !== undefined || invocation.left.size < MOST) mapSet(invocation.left, warning, (times ?? 0) + 1);
}

/** A rejection or error that nobody caught: kept as a warning. Returns it in words, or undefined where it was told before. */
export function uncaught(invocation: Invocation | undefined, reason: unknown, before: string, promise?: object): string | undefined {
  if (typeof reason === "object" && reason !== null && weakGet(told, reason)) return undefined;
  const { type, message, stack, frames } = parse(describe(reason));
  if (invocation !== undefined && !invocation.closed) {
    const [frame] = frames;
    const site = frame === undefined && promise !== undefined ? weakGet(sites, promise) : undefined;
    const place = frame === undefined ? placeIn(site?.stack) : stringify([{ file: frame.file, line: frame.line }]);
    keep(invocation, `${before}${type}: ${message}`, place);
  }
  return stack || `${type}: ${message}`;
}

/** The warnings that were kept, as a frame's member; then there are none. */
export function warnings(invocation: Invocation): string {
  if (invocation.left.size === 0) return "";
  let list = "";
  mapForEach(invocation.left, (times, warning) => {
    list += `${list && ","}{${warning},"times":${times}}`;
  });
  mapClear(invocation.left);
  return `,"warnings":[${list}]`;
}

/** Have `Promise.reject` remember where it was called, where its reason can't tell. Called once, before user code. */
export function installRejections(): void {
  const original = RealPromise.reject;
  ObjectDefineProperty(RealPromise, "reject", {
    value: function reject(this: unknown, reason: unknown) {
      const promise = ReflectApply(original, this as typeof RealPromise, [reason]);
      if (!(reason instanceof RealError)) {
        const site: { stack?: string } = {};
        captureStackTrace(site);
        weakSet(sites, promise, site);
      }
      return promise;
    },
    writable: true,
    configurable: true,
    enumerable: false,
  });
}
