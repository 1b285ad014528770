// The originals of everything the guest itself relies on, taken before any user code runs. User code may patch prototypes
// and globals (on purpose or through a polyfill); frames, delivery, clock and random must not notice. Imported by every module here.

type Method = (this: never, ...args: never[]) => unknown;

// deno-lint-ignore no-explicit-any
const bind = Function.prototype.bind as any;
const call = Function.prototype.call;

/** `method` as a function whose first argument is its `this`. */
export function uncurry<M extends Method>(method: M): (self: ThisParameterType<M>, ...args: Parameters<M>) => ReturnType<M> {
  return bind.call(call, method);
}

export const RealDate = Date;
export const RealMap = Map;
export const RealSet = Set;
export const RealBytes = Uint8Array;
export const RealArrayBuffer = ArrayBuffer;
export const isView = ArrayBuffer.isView;
export const dateTime = uncurry(Date.prototype.getTime);
export const startsWith = uncurry(String.prototype.startsWith) as (self: string, part: string) => boolean;
export const includes = uncurry(String.prototype.includes) as (self: string, part: string) => boolean;
export const RealPromise = Promise;
export const RealError = Error;
export const ReflectApply = Reflect.apply;
export const ReflectConstruct = Reflect.construct;
export const ObjectDefineProperty = Object.defineProperty;
export const hasOwn = Object.hasOwn;
export const isArray = Array.isArray;
export const stringify = JSON.stringify;
export const parse = JSON.parse;
export const floor = Math.floor;
export const captureStackTrace = (Error as unknown as { captureStackTrace(target: object, above?: unknown): void }).captureStackTrace;
export const promiseThen = uncurry(Promise.prototype.then) as <T, R>(
  self: Promise<T>,
  done: (value: T) => R,
  failed?: (reason: unknown) => R,
) => Promise<R>;
export const slice = uncurry(Array.prototype.slice) as <T>(self: T[], from: number) => T[];
export const functionText = uncurry(Function.prototype.toString) as (self: unknown) => string;
const exec = uncurry(RegExp.prototype.exec) as (self: RegExp, text: string) => unknown;
export const matches = (pattern: RegExp, text: string): boolean => text.length < 200 && exec(pattern, text) !== null;
export const mapGet = uncurry(Map.prototype.get) as <K, V>(self: Map<K, V>, key: K) => V | undefined;
export const mapSet = uncurry(Map.prototype.set) as <K, V>(self: Map<K, V>, key: K, value: V) => void;
export const mapForEach = uncurry(Map.prototype.forEach) as <K, V>(self: Map<K, V>, each: (value: V, key: K) => void) => void;
export const mapDelete = uncurry(Map.prototype.delete) as <K, V>(self: Map<K, V>, key: K) => boolean;
export const weakGet = uncurry(WeakMap.prototype.get) as <V>(self: WeakMap<object, V>, key: object) => V | undefined;
export const weakSet = uncurry(WeakMap.prototype.set) as <V>(self: WeakMap<object, V>, key: object, value: V) => void;
export const mapClear = uncurry(Map.prototype.clear) as <K, V>(self: Map<K, V>) => void;
export const bytesSet = uncurry(Uint8Array.prototype.set) as (self: Uint8Array, from: Uint8Array, at?: number) => void;
export const bytesSubarray = uncurry(Uint8Array.prototype.subarray) as (
  self: Uint8Array,
  from: number,
  to: number,
) => Uint8Array<ArrayBuffer>;
export const bytesSlice = uncurry(Uint8Array.prototype.slice) as (
  self: Uint8Array,
  from: number,
  to: number,
) => Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const encodeMethod = uncurry(TextEncoder.prototype.encode);
const encodeIntoMethod = uncurry(TextEncoder.prototype.encodeInto);
const decodeMethod = uncurry(TextDecoder.prototype.decode);
export const utf8 = (text: string): Uint8Array<ArrayBuffer> => encodeMethod(encoder, text) as Uint8Array<ArrayBuffer>;
export const utf8Into = (text: string, into: Uint8Array<ArrayBuffer>): number => encodeIntoMethod(encoder, text, into).written;
export const fromUtf8 = (bytes: Uint8Array<ArrayBuffer>): string => decodeMethod(decoder, bytes);

const responseArrayBuffer = uncurry(Response.prototype.arrayBuffer);
// deno-lint-ignore no-explicit-any
const getter = (name: string) => uncurry(Object.getOwnPropertyDescriptor(Response.prototype, name)!.get as any) as (response: Response) => any;
export const statusOf = getter("status") as (response: Response) => number;
export const headersOf = getter("headers") as (response: Response) => Headers;
export const streamOf = getter("body") as (response: Response) => ReadableStream | null;
export const bodyUsedOf = getter("bodyUsed") as (response: Response) => boolean;
export const bodyOf = (response: Response): Promise<ArrayBuffer> => responseArrayBuffer(response);
export const RealResponse = Response;
export const RealHeaders = Headers;
export const headersForEach = uncurry(Headers.prototype.forEach);

const btoaOriginal = btoa;
const atobOriginal = atob;
const fromCharCode = String.fromCharCode;

/** Bytes as base64. */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    binary += ReflectApply(fromCharCode, null, bytesSubarray(bytes, at, at + 8192) as unknown as number[]);
  }
  return btoaOriginal(binary);
}

/** Base64 as bytes. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atobOriginal(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
