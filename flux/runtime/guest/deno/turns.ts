// Turns: what user code is told (an invocation begins, a reply, the end of a native operation) it is told in a macrotask of its own, one for
// the whole process, in the order of arrival. What runs between two host replies therefore depends on the replies and their order alone,
// also where invocations share module state. The first turn after a rest is taken at once, inside the macrotask that read it.
//
// Native operations (crypto.subtle, blobs, WebAssembly) end when their threads have ended, which is a matter of chance: while one is open
// nothing else is told to anyone, and they end in the order in which they were begun. They hold the process up as long as they take, as the
// same work in JavaScript would.

import { promiseThen, RealPromise } from "./primordials.ts";

// deno-lint-ignore no-explicit-any
const macrotask = (globalThis as any).setImmediate as (run: () => void) => void;

/** Turns after which what user code has sent leaves, though more turns wait. */
const FLUSH_AFTER = 16;

interface Turn {
  run: () => void;
  next: Turn | undefined;
}

/** A native operation that has begun; `run` tells of its end once that has come. */
interface Native {
  run: (() => void) | undefined;
  next: Native | undefined;
}

let open: Native | undefined;
let lastOpen: Native | undefined;
let head: Turn | undefined;
let tail: Turn | undefined;
let taken = false;
let held = 0;
let flush = () => {};

/** Have `written` called whenever turns have come to rest, and now and then before. Replaces the last one. */
export function onRest(written: () => void): void {
  flush = written;
}

/** Whether turns are waiting: what user code sends now can leave together with what they lead to. */
export function waiting(): boolean {
  return head !== undefined;
}

/** Take a turn: now where none was taken in this macrotask and none waits, else in a later one, after those before it. */
export function turn(run: () => void): void {
  if (!taken && open === undefined) {
    taken = true;
    macrotask(next);
    run();
    return;
  }
  const last: Turn = { run, next: undefined };
  if (tail === undefined) head = last;
  else tail.next = last;
  tail = last;
}

/** Take a turn in a later macrotask, whoever asks: what nobody has caught by then has been told. */
export function later(run: () => void): void {
  if (!taken && open === undefined) {
    taken = true;
    macrotask(next);
  }
  const last: Turn = { run, next: undefined };
  if (tail === undefined) head = last;
  else tail.next = last;
  tail = last;
}

/** Run a native operation whose end is a turn: in the order of the beginnings, before any other. */
export function native<T>(start: () => Promise<T>): Promise<T> {
  return new RealPromise<T>((resolve, reject) => {
    const begun: Native = { run: undefined, next: undefined };
    if (lastOpen === undefined) open = begun;
    else lastOpen.next = begun;
    lastOpen = begun;
    const ended = (run: () => void) => {
      begun.run = run;
      if (taken || begun !== open) return;
      taken = true;
      next();
    };
    promiseThen(start(), (value) => ended(() => resolve(value)), (reason) => ended(() => reject(reason)));
  });
}

function next(): void {
  let run: (() => void) | undefined;
  if (open !== undefined) {
    run = open.run;
    if (run !== undefined) {
      open = open.next;
      if (open === undefined) lastOpen = undefined;
    }
  } else if (head !== undefined) {
    run = head.run;
    head = head.next;
    if (head === undefined) tail = undefined;
  }
  if (run === undefined) {
    taken = false;
    held = 0;
    return flush();
  }
  macrotask(next);
  run();
  if (++held % FLUSH_AFTER === 0) flush();
}
