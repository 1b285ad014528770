// What functions get as `node:crypto`: digests, MACs, signatures checked and keys derived by Node's own code; whatever is random comes from
// the invocation's numbers. Nothing that needs a random number of its own (new key pairs, signatures, ciphers) is here: crypto.subtle has it.
// Hash and Hmac are no streams. Imported by the import map in the place of Node's module; loaded by node.ts before user code.

import { Buffer } from "node:buffer";
import * as node from "node:crypto";
import { uuid } from "./crypto.ts";
import { sources } from "./invocation.ts";
import { RealPromise, promiseThen } from "./primordials.ts";

type Data = string | ArrayBufferView;
type Native = { update(data: Data, encoding?: string): unknown; digest(encoding?: string): unknown; copy?(options?: object): Native };

const { isSafeInteger } = Number;
const key = {};

/** A Hash or an Hmac. */
class Digest {
  #native: Native;

  constructor(native: Native, made: object) {
    if (made !== key) throw new TypeError("Make it with createHash or createHmac.");
    this.#native = native;
  }

  /** Take more data; `encoding` is a string's, utf8 by default. */
  update(data: Data, encoding?: string): this {
    this.#native.update(data, encoding);
    return this;
  }

  /** The result, a Buffer, or text in the encoding. Once. */
  digest(encoding?: string): string | Buffer {
    return this.#native.digest(encoding) as string | Buffer;
  }

  /** One that goes on by itself from here. */
  copy(options?: object): Digest {
    if (this.#native.copy === undefined) throw new TypeError("An Hmac can't be copied.");
    return new Digest(this.#native.copy(options), key);
  }
}

export function createHash(algorithm: string, options?: object): Digest {
  return new Digest(node.createHash(algorithm, options) as unknown as Native, key);
}

// deno-lint-ignore no-explicit-any
export function createHmac(algorithm: string, secret: any, options?: object): Digest {
  return new Digest(node.createHmac(algorithm, secret, options) as unknown as Native, key);
}

/** Random bytes; with a callback they are handed to it in a later step. */
export function randomBytes(size: number, callback?: (error: null, bytes: Buffer) => void): Buffer | undefined {
  if (!isSafeInteger(size) || size < 0 || size > 2 ** 31 - 1) {
    throw new RangeError(`The "size" argument must be a whole number from 0 to 2147483647. Received ${size}`);
  }
  return later(randomFillSync(Buffer.alloc(size)), callback);
}

/** Fill `size` bytes of a buffer from `offset` on. */
export function randomFillSync<T extends ArrayBufferView | ArrayBuffer>(into: T, offset = 0, size?: number): T {
  const width = "BYTES_PER_ELEMENT" in into ? (into as unknown as Uint8Array).BYTES_PER_ELEMENT : 1;
  const from = offset * width;
  const length = size === undefined ? into.byteLength - from : size * width;
  if (!(from >= 0 && length >= 0 && from + length <= into.byteLength)) throw new RangeError("The place to fill lies outside the buffer.");
  const bytes = ArrayBuffer.isView(into) ? new Uint8Array(into.buffer, into.byteOffset + from, length) : new Uint8Array(into, from, length);
  sources().random.fill(bytes);
  return into;
}

/** A whole number in [min, max), or in [0, max); without bias. */
export function randomInt(min: number, max?: number | Callback, callback?: Callback): number | undefined {
  if (max === undefined || typeof max === "function") [min, max, callback] = [0, min, max as Callback | undefined];
  const range = (max as number) - min;
  if (!isSafeInteger(min) || !isSafeInteger(max) || range <= 0 || range > 2 ** 48 - 1) {
    throw new RangeError(`randomInt takes whole numbers, min < max, at most 2^48 - 1 apart. Received ${min}, ${max}`);
  }
  const limit = 2 ** 48 - 2 ** 48 % range;
  for (;;) {
    const [low, middle, high] = randomFillSync(new Uint16Array(3));
    const drawn = (high * 2 ** 16 + middle) * 2 ** 16 + low;
    if (drawn < limit) return later(min + drawn % range, callback);
  }
}

/** A version 4 UUID. */
export const randomUUID = (): string => uuid();

type Callback = (error: null, value: number) => void;

/** The value; where there is a callback, to that, in a later step. */
function later<T>(value: T, callback?: (error: null, value: T) => void): T | undefined {
  if (callback === undefined) return value;
  void promiseThen(RealPromise.resolve(), () => callback(null, value));
  return undefined;
}

export const { createPublicKey, createSecretKey, getHashes, hash, hkdfSync, pbkdf2Sync, scryptSync, timingSafeEqual, verify } = node;
export const webcrypto = globalThis.crypto;
export const subtle = webcrypto.subtle;
export const getRandomValues = <T extends ArrayBufferView>(view: T): T => webcrypto.getRandomValues(view as never) as unknown as T;

export default {
  createHash, createHmac, createPublicKey, createSecretKey, getHashes, getRandomValues, hash, hkdfSync, pbkdf2Sync, randomBytes, randomFillSync,
  randomInt, randomUUID, scryptSync, subtle, timingSafeEqual, verify, webcrypto,
};
