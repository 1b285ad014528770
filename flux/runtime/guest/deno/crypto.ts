// Math.random and the Web Crypto API over the invocation's random numbers. Operations of crypto.subtle end in the order in which they
// were begun. Keys whose making can't be seeded (RSA, ECDSA, ECDH) are refused by name; signatures that are random by nature stay so.

import { scope, sources } from "./invocation.ts";
import { ObjectDefineProperty, ReflectApply, uncurry } from "./primordials.ts";
import { native } from "./turns.ts";

const bufferOf = uncurry(
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), "buffer")!.get! as () => ArrayBuffer,
) as (view: unknown) => ArrayBuffer;
const HEX: string[] = [];
for (let i = 0; i < 256; i++) HEX[i] = (i < 16 ? "0" : "") + i.toString(16);
const HASH_BYTES: Record<string, number> = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };
const PKCS8: Record<string, number> = { Ed25519: 0x70, X25519: 0x6e };

function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  sources().random.fill(bytes);
  return bytes;
}

/** A version 4 UUID from the invocation's random numbers. */
export function uuid(): string {
  const b = randomBytes(16);
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  let text = "";
  for (let i = 0; i < 16; i++) text += (i === 4 || i === 6 || i === 8 || i === 10 ? "-" : "") + HEX[b[i]];
  return text;
}

function getRandomValues<T extends ArrayBufferView>(view: T): T {
  if (!ArrayBuffer.isView(view) || view instanceof Float32Array || view instanceof Float64Array || view instanceof DataView) {
    throw new DOMException("getRandomValues takes an integer typed array.", "TypeMismatchError");
  }
  if (view.byteLength > 65536) throw new DOMException("getRandomValues fills 65536 bytes at most.", "QuotaExceededError");
  sources().random.fill(new Uint8Array(bufferOf(view), view.byteOffset, view.byteLength));
  return view;
}

// deno-lint-ignore no-explicit-any
type Any = any;

function generator(subtle: SubtleCrypto): (algorithm: Any, extractable: boolean, usages: KeyUsage[]) => Promise<Any> {
  const importKey = subtle.importKey.bind(subtle) as Any;
  const exportKey = subtle.exportKey.bind(subtle) as Any;
  return async (algorithm, extractable, usages) => {
    const name = String(algorithm?.name ?? algorithm).toUpperCase();
    if (name.startsWith("AES-")) return importKey("raw", randomBytes(algorithm.length / 8), algorithm, extractable, usages);
    if (name === "HMAC") {
      const hash = String(algorithm.hash?.name ?? algorithm.hash).toUpperCase();
      const bytes = algorithm.length ? Math.ceil(algorithm.length / 8) : HASH_BYTES[hash];
      return importKey("raw", randomBytes(bytes), algorithm, extractable, usages);
    }
    for (const curve of Object.keys(PKCS8)) {
      if (name !== curve.toUpperCase()) continue;
      const der = new Uint8Array(48);
      der.set([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, PKCS8[curve], 4, 0x22, 4, 0x20]);
      der.set(randomBytes(32), 16);
      const isPrivate = (usage: string) => usage === "sign" || usage.startsWith("derive");
      const own = usages.filter(isPrivate);
      const { x } = await exportKey("jwk", await importKey("pkcs8", der, { name: curve }, true, own));
      const publicKey = await importKey("jwk", { kty: "OKP", crv: curve, x }, { name: curve }, true, usages.filter((u) => !isPrivate(u)));
      return { privateKey: await importKey("pkcs8", der, { name: curve }, extractable, own), publicKey };
    }
    throw new DOMException(
      `A new ${name} key can't be made inside a function: it could not be replayed. Make it outside and read it with ctx.secrets.get.`,
      "NotSupportedError",
    );
  };
}

/** Replace every source of random in this realm. Called once, before user code. */
export function installRandom(): void {
  const define = (target: object, name: string, value: unknown) =>
    ObjectDefineProperty(target, name, { value, writable: true, configurable: true, enumerable: true });
  ObjectDefineProperty(Math, "random", { value: () => sources().random.number(), writable: true, configurable: true });
  define(Crypto.prototype, "getRandomValues", getRandomValues);
  define(Crypto.prototype, "randomUUID", uuid);
  const { subtle } = crypto;
  const generateKey = generator(subtle);
  for (const name of Object.getOwnPropertyNames(SubtleCrypto.prototype) as (keyof SubtleCrypto)[]) {
    const original = SubtleCrypto.prototype[name] as unknown;
    if ((name as string) === "constructor" || typeof original !== "function") continue;
    const start = (args: unknown[]): Promise<unknown> =>
      name === "generateKey"
        ? ReflectApply(generateKey, undefined, args as Parameters<typeof generateKey>)
        : ReflectApply(original as (...args: unknown[]) => Promise<unknown>, subtle, args);
    define(SubtleCrypto.prototype, name, (...args: unknown[]) => {
      return scope() === undefined ? start(args) : native(() => start(args));
    });
  }
}
