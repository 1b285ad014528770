// Frames: `u32be length | u32be header length | header | body`. They come by a socket of the host's that this process connects to (stdin
// is read through a pool of threads, which costs more than all else), and leave by stdout. Both are handed out once, to main.ts, before user
// code is loaded, and with them goes the permission to connect: nobody else can read or write a frame.

import { bytesSet, bytesSlice, bytesSubarray, fromUtf8, parse, utf8, utf8Into } from "./primordials.ts";
import { waiting } from "./turns.ts";

/** The header of a frame from the host. */
// deno-lint-ignore no-explicit-any
export type Header = Record<string, any>;

/** Takes a frame; `body` may be kept. */
export type Take = (header: Header, body: Uint8Array<ArrayBuffer>) => void;

/**
 * The write side of the socket. Frames of one step leave together, at its end (in a microtask, or when the turns that wait have been
 * taken): a write wakes the host and costs more than all else. `flush` sends them at once, for what must be out before user code can block.
 */
export interface Wire {
  /** Send a frame. `header` is JSON text without user-controlled structure; `body` text or bytes. */
  send(header: string, body?: string | Uint8Array): void;
  flush(): void;
}

const NOTHING = new Uint8Array(0);
const deno = Deno;
const microtask = queueMicrotask;
let taken = false;

/** Connect to the host: returns the wire's write side, and `serve`, which reads frames until the host closes it. Works once. */
export async function open(): Promise<Wire & { serve(take: Take): Promise<void> }> {
  if (taken) throw new TypeError("The frames are taken.");
  taken = true;
  const path = deno.args[0];
  const connection = await deno.connect({ transport: "unix", path });
  for (const permission of [{ name: "net" }, { name: "write" }, { name: "read", path }] as Deno.PermissionDescriptor[]) {
    deno.permissions.revokeSync(permission);
  }
  const read = connection.read.bind(connection);
  const write = deno.stdout.writeSync.bind(deno.stdout);
  return { ...writer(write), serve: (take) => serve(read, take) };
}

function writer(write: (bytes: Uint8Array) => number): Wire {
  const buffer = new Uint8Array(128 * 1024);
  let used = 0;
  let scheduled = false;
  const all = (bytes: Uint8Array<ArrayBuffer>) => {
    for (let at = 0; at < bytes.length;) at += write(at ? bytesSubarray(bytes, at, bytes.length) : bytes);
  };
  const flush = () => {
    scheduled = false;
    if (used === 0) return;
    const end = used;
    used = 0;
    all(bytesSubarray(buffer, 0, end));
  };
  const numbers = (into: Uint8Array, at: number, length: number, head: number) => {
    into[at] = length >>> 24, into[at + 1] = length >>> 16, into[at + 2] = length >>> 8, into[at + 3] = length;
    into[at + 4] = head >>> 24, into[at + 5] = head >>> 16, into[at + 6] = head >>> 8, into[at + 7] = head;
  };
  const send = (header: string, body: string | Uint8Array = "") => {
    const most = 8 + 3 * (header.length + body.length);
    if (most > buffer.length - used) flush();
    if (most <= buffer.length) {
      const start = used;
      const head = utf8Into(header, bytesSubarray(buffer, start + 8, buffer.length));
      let end = start + 8 + head;
      if (typeof body === "string") end += body === "" ? 0 : utf8Into(body, bytesSubarray(buffer, end, buffer.length));
      else bytesSet(buffer, body, end), end += body.length;
      numbers(buffer, start, end - start - 4, head);
      used = end;
      if (!scheduled) {
        scheduled = true;
        if (!waiting()) microtask(flush);
      }
    } else {
      const head = utf8(header);
      const rest = typeof body === "string" ? utf8(body) : body;
      const frame = new Uint8Array(8 + head.length + rest.length);
      numbers(frame, 0, frame.length - 4, head.length);
      bytesSet(frame, head, 8);
      bytesSet(frame, rest, 8 + head.length);
      all(frame);
    }
  };
  return { send, flush };
}

async function serve(read: (into: Uint8Array) => Promise<number | null>, take: Take): Promise<void> {
  let buffer = new Uint8Array(256 * 1024);
  let end = 0;
  for (;;) {
    const count = await read(bytesSubarray(buffer, end, buffer.length));
    if (count === null) return;
    end += count;
    let at = 0;
    let wanted = 0;
    while (end - at >= 8) {
      const length = number(buffer, at);
      if (end - at < 4 + length) {
        wanted = 4 + length;
        break;
      }
      const head = at + 8 + number(buffer, at + 4);
      const next = at + 4 + length;
      const body = head === next ? NOTHING : bytesSlice(buffer, head, next);
      take(parse(fromUtf8(bytesSubarray(buffer, at + 8, head))), body);
      at = next;
    }
    const rest = end - at;
    if (wanted > buffer.length) {
      const larger = new Uint8Array(wanted + 64 * 1024);
      bytesSet(larger, bytesSubarray(buffer, at, end));
      buffer = larger;
    } else if (rest && at) {
      bytesSet(buffer, bytesSubarray(buffer, at, end));
    }
    end = rest;
    if (!rest && buffer.length > 4 * 1024 * 1024) buffer = new Uint8Array(256 * 1024);
  }
}

function number(bytes: Uint8Array, at: number): number {
  return ((bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3]) >>> 0;
}
