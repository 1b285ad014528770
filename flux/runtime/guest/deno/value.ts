// JSON with errors that say what can't be written and where it is.

import {
  dateTime,
  fromBase64,
  includes,
  isArray,
  isView,
  ObjectDefineProperty,
  parse,
  RealArrayBuffer,
  RealBytes,
  RealDate,
  RealMap,
  RealPromise,
  RealSet,
  ReflectApply,
  stringify,
  toBase64,
  utf8,
} from "./primordials.ts";

/** Bytes of JSON or body that one frame may carry. */
const LARGEST = 200 * 2 ** 20;

/** Thrown where a value can't be written as JSON. */
export class JSONError extends TypeError {
  static {
    JSONError.prototype.name = "JSONError";
  }
}

/**
 * `value` as JSON text; `what` begins the message of the error. One rule wherever a value leaves a function: bytes become
 * `{"$bytea": base64}`, a bigint its digits as a string, undefined is left out (null in a list and by itself); what JSON can't say (NaN, a
 * Map, a Set, a promise, a date that is none) is refused with its place, never lost in silence. The rest is as JSON.stringify has it.
 */
export function json(value: unknown, what: string): string {
  if (value === undefined) return "null";
  let text: string | undefined;
  try {
    text = stringify(plain(value, "", undefined));
  } catch (error) {
    if (error instanceof Unfit) throw new JSONError(`${what} can't be written as JSON: ${error.where()} ${error.reason}`);
    if (!(error instanceof RangeError)) throw error;
    // Deeper than the stack: JSON.stringify goes on, where there is nothing in it that it would lose.
    const found = lossy(value) ? `it is nested too deeply for what is in it.` : undefined;
    try {
      if (found === undefined) text = stringify(value);
    } catch {
      // Said below.
    }
    if (text === undefined) throw new JSONError(`${what} can't be written as JSON: ${found ?? find(value, "", []) ?? "it is nested too deeply."}`);
  }
  if (text === undefined) throw new JSONError(`${what} can't be written as JSON: it is a ${typeof value}.`);
  return text;
}

/** The value of JSON text that a function wrote: its bytes are bytes again. */
export function revived(text: string): unknown {
  const value = parse(text);
  return includes(text, '"$bytea"') ? revive(value) : value;
}

function revive(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const object = value as Record<string, unknown>;
  const keys = Object.keys(object);
  if (keys.length === 1 && typeof object.$bytea === "string") {
    try {
      return fromBase64(object.$bytea);
    } catch {
      return value;
    }
  }
  for (const key of keys) set(object, key, revive(object[key]));
  return value;
}

/** A place in a value: the members and indexes that lead to it, innermost first. */
interface Place {
  key: string | number;
  above: Place | undefined;
}

class Unfit {
  constructor(readonly place: Place | undefined, readonly reason: string) {}

  where(): string {
    let path = "";
    for (let at = this.place; at !== undefined; at = at.above) {
      const step = typeof at.key === "number" ? `[${at.key}]` : at.key;
      path = path === "" || path[0] === "[" ? step + path : `${step}.${path}`;
    }
    return path === "" ? "it" : `\`${path}\``;
  }
}

/** `value` with what JSON.stringify would lose written as it should be; the same value where there is nothing of that kind in it. */
function plain(value: unknown, key: string | number, place: Place | undefined): unknown {
  if (typeof value === "number") {
    if (value - value !== 0) throw new Unfit(place, `is ${value}; write it as a string or as null.`);
    return value;
  }
  if (typeof value === "bigint") return `${value}`;
  if (typeof value !== "object" || value === null) return value;
  if (isView(value)) return { $bytea: toBase64(new RealBytes(value.buffer, value.byteOffset, value.byteLength)) };
  if (value instanceof RealArrayBuffer) return { $bytea: toBase64(new RealBytes(value)) };
  if (value instanceof RealMap) throw new Unfit(place, "is a Map; write Object.fromEntries(map), or [...map].");
  if (value instanceof RealSet) throw new Unfit(place, "is a Set; write [...set].");
  if (value instanceof RealPromise) throw new Unfit(place, "is a promise; await it.");
  if (value instanceof RealDate && dateTime(value) !== dateTime(value)) throw new Unfit(place, "is a Date that is no date.");
  const told = (value as { toJSON?: unknown }).toJSON;
  if (typeof told === "function") {
    const said = ReflectApply(told as () => unknown, value, [`${key}`] as unknown as []) as unknown;
    if (said !== value) return plain(said, key, place);
  }
  if (isArray(value)) {
    let copy: unknown[] | undefined;
    for (let at = 0; at < value.length; at++) {
      const item = plain(value[at], at, { key: at, above: place });
      if (copy === undefined && item !== value[at]) copy = value.slice();
      if (copy !== undefined) copy[at] = item;
    }
    return copy ?? value;
  }
  const object = value as Record<string, unknown>;
  let copy: Record<string, unknown> | undefined;
  for (const name of Object.keys(object)) {
    const before = object[name];
    const item = plain(before, name, { key: name, above: place });
    if (copy === undefined && item !== before) copy = { ...object };
    if (copy !== undefined) set(copy, name, item);
  }
  return copy ?? value;
}

/** Whether something is in `value` that JSON.stringify would lose, however deep. */
function lossy(value: unknown): boolean {
  const seen = new RealSet<object>();
  const waiting: unknown[] = [value];
  while (waiting.length > 0) {
    const next = waiting.pop();
    if (typeof next === "bigint" || (typeof next === "number" && next - next !== 0)) return true;
    if (typeof next !== "object" || next === null || seen.has(next)) continue;
    if (isView(next) || next instanceof RealArrayBuffer || next instanceof RealMap || next instanceof RealSet || next instanceof RealPromise) return true;
    seen.add(next);
    for (const name of Object.keys(next)) waiting.push((next as Record<string, unknown>)[name]);
  }
  return false;
}

function set(object: Record<string, unknown>, name: string, value: unknown): void {
  if (name === "__proto__") ObjectDefineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  else object[name] = value;
}

/** `body` as it is; throws where it is larger than a frame may be. `what` begins the message of the error. */
export function fitting<T extends string | Uint8Array>(body: T, what: string): T {
  const size = typeof body === "string" && body.length > LARGEST / 3 ? utf8(body).length : body.length;
  if (size > LARGEST) throw new RangeError(`${what} is too large: ${Math.ceil(size / 2 ** 20)} MiB, of ${LARGEST / 2 ** 20} that can be sent at once.`);
  return body;
}

function find(value: unknown, path: string, above: object[]): string | undefined {
  const where = path === "" ? "it" : `\`${path}\``;
  if (typeof value !== "object" || value === null) return undefined;
  if (above.includes(value)) return `${where} contains itself.`;
  if (above.length > 2000) return `${where} is nested too deeply.`;
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") return undefined;
  for (const key of Object.keys(value)) {
    const next = isArray(value) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
    const found = find((value as Record<string, unknown>)[key], next, [...above, value]);
    if (found !== undefined) return found;
  }
  return undefined;
}
