// An invocation in flight, and which one the running code belongs to (AsyncLocalStorage). Each reply is a turn of its own (turns.ts), in the
// order of arrival; while a native asynchronous operation of the invocation is open, its replies wait behind that, so that the order of
// events in a function depends on the replies alone.

import { AsyncLocalStorage } from "node:async_hooks";
import { Random } from "./random.ts";
import { promiseThen, RealPromise, uncurry } from "./primordials.ts";
import { turn } from "./turns.ts";

/** A clock and random numbers: an invocation's, or the start frame's for code that runs outside any. */
export class Sources {
  #seed: string;
  #random: Random | undefined;
  /** Microseconds since the epoch. */
  now: number;
  /** `now` at the beginning. */
  readonly began: number;

  constructor(now: number, seed: string) {
    this.now = now;
    this.began = now;
    this.#seed = seed;
  }

  get random(): Random {
    return this.#random ??= new Random(this.#seed);
  }
}

/** A host call that has no answer yet. */
export interface Pending {
  op: string;
  /** Its `stack` shows where it was called. */
  site: { stack?: string };
  /** Whether it may be left open without a word. */
  quiet: boolean;
  resolve(value: unknown): void;
  reject(reason: unknown): void;
}

interface Event {
  deliver: (() => void) | undefined;
  next: Event | undefined;
}

class Queue {
  head: Event | undefined;
  #tail: Event | undefined;

  add(deliver: (() => void) | undefined): Event {
    const event: Event = { deliver, next: undefined };
    if (this.#tail === undefined) this.head = event;
    else this.#tail.next = event;
    this.#tail = event;
    return event;
  }

  shift(): void {
    this.head = this.head!.next;
    if (this.head === undefined) this.#tail = undefined;
  }
}

/** One run of the function. */
export class Invocation extends Sources {
  /** Number of the last call or note. */
  last = 0;
  /** The handler has settled. */
  settled = false;
  /** It takes no more calls: the handler has settled and so has what it handed to ctx.waitUntil, or it was cancelled. */
  ended = false;
  /** The host has been told how the handler ended. */
  answered = false;
  /** The host has had the last word of it. */
  closed = false;
  /** Promises handed to ctx.waitUntil that have not settled. */
  works = 0;
  /** What it left behind, as JSON of a warning's members, and how often. */
  readonly left: Map<string, number> = new Map();
  readonly pending: Map<number, Pending> = new Map();
  readonly number: number;
  #natives = new Queue();
  #replies = new Queue();
  #scheduled = false;

  constructor(number: number, now: number, seed: string) {
    super(now, seed);
    this.number = number;
  }

  /** Deliver a reply in a turn of its own: after those before it, and after the native operations that are open. */
  deliver(reply: () => void): void {
    turn(() => {
      if (this.#natives.head === undefined && this.#replies.head === undefined) return reply();
      this.#replies.add(reply);
      this.#schedule();
    });
  }

  /** Run a native asynchronous operation so that its end is delivered in the order of issue, before any further reply. */
  native<T>(start: () => Promise<T>): Promise<T> {
    return new RealPromise<T>((resolve, reject) => {
      const event = this.#natives.add(undefined);
      const settle = (deliver: () => void) => {
        event.deliver = deliver;
        this.#schedule();
      };
      promiseThen(start(), (value) => settle(() => resolve(value)), (reason) => settle(() => reject(reason)));
    });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    const head = this.#natives.head ?? this.#replies.head;
    if (head === undefined || head.deliver === undefined) return;
    this.#scheduled = true;
    turn(() => {
      this.#scheduled = false;
      const queue = this.#natives.head !== undefined ? this.#natives : this.#replies;
      const deliver = queue.head?.deliver;
      if (deliver === undefined) return;
      queue.shift();
      deliver();
      this.#schedule();
    });
  }
}

/** Where code is running: in which invocation, and inside which span of it (its call's number). */
export interface Scope {
  readonly invocation: Invocation;
  readonly span: number | undefined;
}

const storage = new AsyncLocalStorage<Scope>();
const getStore = uncurry(AsyncLocalStorage.prototype.getStore as () => Scope | undefined) as (self: unknown) => Scope | undefined;
const run = uncurry(AsyncLocalStorage.prototype.run as (store: Scope, fn: () => unknown) => unknown) as (
  self: unknown,
  store: Scope,
  fn: () => unknown,
) => unknown;
const outside = new Sources(0, "0".repeat(64));
let boot: Sources = outside;

/** The scope of the running code, or undefined outside any invocation. */
export function scope(): Scope | undefined {
  return getStore(storage);
}

/** The clock and random numbers of the running code. */
export function sources(): Sources {
  return getStore(storage)?.invocation ?? boot;
}

/** What code outside any invocation sees, from the start frame. Works once. */
export function begin(now: number, seed: string): void {
  if (boot === outside) boot = new Sources(now, seed);
}

/** Run `fn` inside `scope`. */
export function within<T>(scope: Scope, fn: () => T): T {
  return run(storage, scope, fn) as T;
}
