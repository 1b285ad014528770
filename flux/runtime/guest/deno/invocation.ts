// An invocation in flight, and which one the running code belongs to (AsyncLocalStorage). Each reply is a turn of its own (turns.ts), in the
// order of arrival.

import { AsyncLocalStorage } from "node:async_hooks";
import { Random } from "./random.ts";
import { uncurry } from "./primordials.ts";
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

/** What the console keeps: counts and beginnings by label, and how far lines are indented. */
export interface Told {
  counts: Map<string, number>;
  times: Map<string, number>;
  indent: number;
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
  /** Of each Promise.race and Promise.any: the timers that were set for it, by their calls' numbers, and how many of it can lose. */
  readonly races: { ns: number[]; losers: number }[] = [];
  readonly number: number;
  /** Its running timers' calls, by the timers' numbers, once it has set one. */
  timers: Map<number, number> | undefined;
  /** Number of the last timer. */
  timer = 0;
  /** What its console keeps, once it does. */
  told: Told | undefined;

  constructor(number: number, now: number, seed: string) {
    super(now, seed);
    this.number = number;
  }

  /** Deliver a reply in a turn of its own: after those before it. */
  deliver(reply: () => void): void {
    turn(reply);
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

const kept: Told = { counts: new Map(), times: new Map(), indent: 0 };

/** What the console of the running code keeps. */
export function told(): Told {
  const invocation = getStore(storage)?.invocation;
  return invocation === undefined ? kept : invocation.told ??= { counts: new Map(), times: new Map(), indent: 0 };
}
