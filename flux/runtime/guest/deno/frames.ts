// Frames over the socketpair that is this process's stdin and stdout: `u32be length | u32be header length | header | body`.
// The socket is handed out once, to main.ts, before user code is loaded: nobody else can write a frame.

import { bytesSet, bytesSlice, bytesSubarray, fromUtf8, parse, utf8, utf8Into } from "./primordials.ts";

/** The header of a frame from the host. */
// deno-lint-ignore no-explicit-any
export type Header = Record<string, any>;

/** Takes a frame; `body` may be kept. */
export type Take = (header: Header, body: Uint8Array<ArrayBuffer>) => void;

/** The write side of the socket. */
export interface Wire {
  /** Send a frame. `header` is JSON text without user-controlled structure; `body` text or bytes. */
  send(header: string, body?: string | Uint8Array): void;
}

const NOTHING = new Uint8Array(0);
const deno = Deno;
let taken = false;

/** Take the socket: returns its write side, and `serve`, which reads frames until the host closes it. Works once. */
export function open(): Wire & { serve(take: Take, chunkEnds: () => void): Promise<void> } {
  if (taken) throw new TypeError("The frames are taken.");
  taken = true;
  const { stdin, stdout } = deno;
  const read = stdin.read.bind(stdin);
  const write = stdout.writeSync.bind(stdout);
  return { send: sender(write), serve: (take, chunkEnds) => serve(read, take, chunkEnds) };
}

function sender(write: (bytes: Uint8Array) => number): Wire["send"] {
  const small = new Uint8Array(64 * 1024);
  const all = (bytes: Uint8Array<ArrayBuffer>) => {
    for (let at = 0; at < bytes.length;) at += write(at ? bytesSubarray(bytes, at, bytes.length) : bytes);
  };
  const numbers = (into: Uint8Array, length: number, head: number) => {
    into[0] = length >>> 24, into[1] = length >>> 16, into[2] = length >>> 8, into[3] = length;
    into[4] = head >>> 24, into[5] = head >>> 16, into[6] = head >>> 8, into[7] = head;
  };
  return (header, body = "") => {
    if (header.length + body.length < 20_000) {
      const head = utf8Into(header, bytesSubarray(small, 8, small.length));
      let end = 8 + head;
      if (typeof body === "string") end += utf8Into(body, bytesSubarray(small, end, small.length));
      else bytesSet(small, body, end), end += body.length;
      numbers(small, end - 4, head);
      all(bytesSubarray(small, 0, end));
    } else {
      const head = utf8(header);
      const rest = typeof body === "string" ? utf8(body) : body;
      const frame = new Uint8Array(8 + head.length + rest.length);
      numbers(frame, frame.length - 4, head.length);
      bytesSet(frame, head, 8);
      bytesSet(frame, rest, 8 + head.length);
      all(frame);
    }
  };
}

async function serve(read: (into: Uint8Array) => Promise<number | null>, take: Take, chunkEnds: () => void): Promise<void> {
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
    chunkEnds();
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
