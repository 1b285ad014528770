// The guest's entry: boots, waits for `start`, loads the user's module by a dynamic import (under the scoped read permission; a static
// one would bypass it), then runs invocations as they come. Nothing here is reachable from user code.

import "./primordials.ts";
import { installConsole, stray } from "./console.ts";
import { installClock } from "./clock.ts";
import { narrow } from "./confine.ts";
import { installRandom } from "./crypto.ts";
import { content, Context, onWorked, setEnv } from "./ctx.ts";
import { describe, describeLoad, fileUrl, setRoot } from "./errors.ts";
import { type Header, open } from "./frames.ts";
import { installGlobals } from "./globals.ts";
import { answer, cease, connect } from "./host.ts";
import { begin, Invocation, within } from "./invocation.ts";
import { bytesSubarray, mapDelete, mapGet, mapSet, parse, startsWith, stringify } from "./primordials.ts";
import { installRejections, warnings } from "./leftovers.ts";
import { needsNode, prepareNode } from "./node.ts";
import { finished, isResponse, returned } from "./response.ts";
import { installTimers } from "./timers.ts";
import { later, onRest } from "./turns.ts";
import { revived } from "./value.ts";

type Handler = (given: { input: unknown; ctx: Context }) => unknown;

const versions = { ...Deno.version };
const exit = Deno.exit;
const wire = await open();
narrow();
const running: Map<number, Invocation> = new Map();
let handler: Handler | undefined;

async function load(frame: Header): Promise<void> {
  setRoot(frame.root);
  setEnv(frame.env ?? {});
  begin(frame.now, frame.seed);
  try {
    if (needsNode(frame.root)) await prepareNode();
    handler = find((await import(fileUrl(`${frame.root}/${frame.entry}`))).default, frame);
  } catch (error) {
    wire.send(`{"t":"failed","error":${describeLoad(error)}}`);
    return;
  }
  wire.send('{"t":"ready"}');
}

function find(exported: unknown, frame: Header): Handler {
  if (typeof exported === "function") return exported as Handler;
  const defined = exported as { name?: string; handler?: Handler } | undefined;
  if (typeof defined?.handler === "function") {
    if (typeof defined.name === "string" && defined.name !== frame.function) {
      stray(`warning: defineFunction says \`${defined.name}\`, but the folder's name counts: \`${frame.function}\`.`);
    }
    return (given) => defined.handler!(given);
  }
  throw new TypeError(`functions/${frame.entry} has no handler: \`export default defineFunction({ name, handler })\`, or a function.`);
}

function invoke(frame: Header, payload: Uint8Array<ArrayBuffer>): void {
  const invocation = new Invocation(frame.i, frame.now, frame.seed);
  mapSet(running, frame.i, invocation);
  const size: number = frame.body_size;
  const body = size === payload.length ? payload : bytesSubarray(payload, 0, size);
  invocation.deliver(() => within({ invocation, span: undefined }, () => run(invocation, frame, body, payload)));
}

async function run(invocation: Invocation, frame: Header, body: Uint8Array<ArrayBuffer>, payload: Uint8Array<ArrayBuffer>): Promise<void> {
  try {
    // Stacks begin here, whichever way the frame has come.
    await undefined;
    // What has no method comes from a function: an invocation's or a job's payload.
    const input = content(given(payload, body), frame.request?.method ? parse : revived);
    const value = await handler!({ input, ctx: new Context(frame, body) });
    if (isResponse(value)) {
      const [header, bytes] = await finished(invocation, value);
      end(invocation, header, bytes);
    } else {
      end(invocation, `{"t":"done","i":${invocation.number}`, returned(value));
    }
  } catch (error) {
    const told = describe(error);
    end(invocation, `{"t":"error","i":${invocation.number},"error":${told}`, undefined, startsWith(told, '{"type":"RangeError"'));
  }
}

/** The bytes of the handler's input: what follows the body, or the body where nothing does. */
function given(payload: Uint8Array<ArrayBuffer>, body: Uint8Array): Uint8Array<ArrayBuffer> {
  return body.length === payload.length ? payload : bytesSubarray(payload, body.length, payload.length);
}

/**
 * The handler has settled. Where work was handed to ctx.waitUntil the host is told at once and the invocation goes on; else a macrotask later,
 * when rejections that nobody caught have been told. `header` is a frame's without its end.
 */
function end(invocation: Invocation, header: string, body?: string | Uint8Array, starved = false): void {
  if (invocation.ended) return;
  invocation.settled = true;
  if (invocation.works > 0) {
    wire.send(`${header},"more":"work"}`, body);
    invocation.answered = true;
    return;
  }
  cease(invocation);
  const tell = () => {
    if (invocation.closed) return;
    invocation.answered = true;
    const more = invocation.pending.size > 0;
    wire.send(`${header}${more ? ',"more":"calls"' : ""}${warnings(invocation)}}`, body);
    if (!more) close(invocation);
  };
  // A process that is out of memory may have no next macrotask.
  if (starved) tell();
  else later(tell);
}

/** What was handed to ctx.waitUntil has settled after the handler. */
function worked(invocation: Invocation): void {
  later(() => {
    if (invocation.ended || invocation.works > 0) return;
    cease(invocation);
    later(() => settled(invocation));
  });
}

/** Everything has settled: say so, unless calls are open. */
function settled(invocation: Invocation): void {
  if (!invocation.answered || invocation.closed || invocation.pending.size > 0) return;
  wire.send(`{"t":"end","i":${invocation.number}${warnings(invocation)}}`);
  close(invocation);
}

function close(invocation: Invocation): void {
  invocation.closed = true;
  mapDelete(running, invocation.number);
}

function take(frame: Header, body: Uint8Array<ArrayBuffer>): void {
  switch (frame.t) {
    case "reply": {
      const invocation = mapGet(running, frame.i);
      if (invocation === undefined) return;
      answer(invocation, frame, body, settled);
      return;
    }
    case "invoke":
      return invoke(frame, body);
    case "ping":
      wire.send(`{"t":"pong","k":${frame.k}}`);
      return wire.flush();
    case "cancel": {
      const invocation = mapGet(running, frame.i);
      if (invocation === undefined) return;
      invocation.ended = true;
      return close(invocation);
    }
    case "start":
      void load(frame);
  }
}

connect(wire);
onRest(wire.flush);
installConsole();
installRejections();
onWorked(worked);
installClock();
installRandom();
installTimers();
installGlobals();
wire.send(`{"t":"booted","guest":${stringify(versions)}}`);
wire.serve(take).then(() => exit(0), (error) => {
  stray(`The guest failed: ${error?.stack ?? error}`);
  exit(70);
});
