// Bodies that the runtime would make with its own random numbers, or read when its threads get to it: forms, whose boundary is drawn from the
// invocation, and blobs, whose pieces come in turns. Used by fetch, and behind Response, Request, Blob and URL.createObjectURL.

import { uuid } from "./crypto.ts";
import { scope } from "./invocation.ts";
import { captureStackTrace, ObjectDefineProperty, ReflectApply, ReflectConstruct } from "./primordials.ts";
import { native } from "./turns.ts";

const RealBlob = Blob, RealForm = FormData, RealStream = ReadableStream;
const INTERNAL = /^Error\n\s+at [^\n]*\bext:/;
const blobStream = Blob.prototype.stream;

// deno-lint-ignore no-explicit-any
type Any = any;

/** A form as a blob, of the type `multipart/form-data`. */
export function multipart(form: FormData): Blob {
  const boundary = `----flux-${uuid()}`;
  const quoted = (text: string) => text.replaceAll("\r", "%0D").replaceAll("\n", "%0A").replaceAll('"', "%22");
  const parts: BlobPart[] = [];
  for (const [name, value] of form) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${quoted(name)}"`;
    if (typeof value === "string") {
      parts.push(`${head}\r\n\r\n${value.replace(/\r\n?|\n/g, "\r\n")}\r\n`);
    } else {
      parts.push(`${head}; filename="${quoted(value.name)}"\r\nContent-Type: ${value.type || "application/octet-stream"}\r\n\r\n`, value, "\r\n");
    }
  }
  parts.push(`--${boundary}--\r\n`);
  return new RealBlob(parts, { type: `multipart/form-data; boundary=${boundary}` });
}

/** A blob's bytes, each piece of them a turn. */
export function streamOfBlob(blob: Blob): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = (ReflectApply(blobStream, blob, []) as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
  return new RealStream({
    type: "bytes",
    async pull(controller) {
      const read = () => reader.read();
      const { done, value } = await (scope() === undefined ? read() : native(read));
      if (!done) return controller.enqueue(value);
      controller.close();
      controller.byobRequest?.respond(0);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/** `body` as the runtime may take it, and its type where it has one. */
function told(body: unknown): { body: unknown; type: string } {
  const blob = body instanceof RealForm ? multipart(body) : body;
  return blob instanceof RealBlob ? { body: streamOfBlob(blob), type: blob.type } : { body, type: "" };
}

function typed(init: Any, body: unknown, type: string, given: Headers | undefined): Any {
  const headers = new Headers(init?.headers ?? given);
  if (type !== "" && !headers.has("content-type")) headers.set("content-type", type);
  return { ...init, body, headers };
}

/** A class of the realm, whose `construct` sees to the arguments. */
function wrap(name: string, arranged: (args: Any[]) => Any[]): void {
  const realm = globalThis as Any;
  const real = realm[name];
  const wrapped: Any = new Proxy(real, {
    construct: (target, args, maker) => ReflectConstruct(target, arranged(args), maker === wrapped ? target : maker) as object,
  });
  const define = (target: object, key: string, value: unknown) => ObjectDefineProperty(target, key, { value, writable: true, configurable: true, enumerable: false });
  define(real.prototype, "constructor", wrapped);
  define(realm, name, wrapped);
}

/** Patch the realm. Called once, before user code. */
export function installBodies(): void {
  wrap("Response", (args) => {
    if (!(args[0] instanceof RealForm || args[0] instanceof RealBlob)) return args;
    const { body, type } = told(args[0]);
    const { body: _, ...init } = typed(args[1], undefined, type, undefined);
    return [body, init];
  });
  wrap("Request", (args) => {
    const given = args[1]?.body;
    if (!(given instanceof RealForm || given instanceof RealBlob)) return args;
    const { body, type } = told(given);
    return [args[0], { ...typed(args[1], body, type, (args[0] as Any)?.headers), duplex: "half" }];
  });
  ObjectDefineProperty(RealBlob.prototype, "stream", {
    value: function stream(this: Blob) {
      // The runtime reads the blobs that a blob is made of the same way, inside of a native operation.
      const caller: { stack?: string } = {};
      captureStackTrace(caller, stream);
      return INTERNAL.test(caller.stack!) ? ReflectApply(blobStream, this, []) : streamOfBlob(this);
    },
    writable: true,
    configurable: true,
    enumerable: true,
  });
  // A name only: what it names can't be fetched here, nor imported.
  ObjectDefineProperty(URL, "createObjectURL", {
    value: function createObjectURL(blob: unknown) {
      if (!(blob instanceof RealBlob)) throw new TypeError("URL.createObjectURL takes a Blob.");
      return `blob:null/${uuid()}`;
    },
    writable: true,
    configurable: true,
    enumerable: true,
  });
  ObjectDefineProperty(URL, "revokeObjectURL", { value: function revokeObjectURL() {}, writable: true, configurable: true, enumerable: true });
}
