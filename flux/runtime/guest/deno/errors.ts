// Errors on their way out: anything thrown as {type, message, stack, frames, fields?}, its frames relative to the bundle and without the
// guest's own; and host errors on their way in, whose stack begins where user code made the call.

import { DatabaseError, FetchError, HostError, InvokeError, QueueError, SecretError, ValidationError } from "./functions.ts";
import { ObjectDefineProperty, stringify } from "./primordials.ts";

const inspect = Deno.inspect;
const GUEST = new URL(".", import.meta.url).href;
const GUEST_SHOWN = decodeURIComponent(GUEST);
const FRAME = /^\s*at (?:async )?(?:(.*?) \()?(?:async )?((?:file|data|blob|ext|node|flux):[^\s)]*?):(\d+):(\d+)\)?$/;
const LOCATION = /(file:\/\/[^\s:()]+):(\d+):(\d+)/;
const LONGEST = 32_000;
const DEEPEST = 200;
let root = "\0";
let plainRoot = "\0";

/** The URL of a file. */
export function fileUrl(path: string): string {
  return `file://${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** Say where the bundle is: its folder, with which frames' files begin. Works once. */
export function setRoot(folder: string): void {
  if (root !== "\0") return;
  root = `${fileUrl(folder)}/`;
  plainRoot = `file://${folder}/`;
}

interface Frame {
  file: string;
  line: number;
  column: number;
  function: string;
}

function hidden(line: string): boolean {
  return line.includes(GUEST) || line.includes(GUEST_SHOWN) || /\b(?:ext|checkin):/.test(line) || line.includes("<anonymous>)") && /at (?:async )?Promise\.|at new Promise/.test(line);
}

/** A stack's lines that are frames, without the guest's own. */
function frameLines(stack: string): string[] {
  return stack.split("\n").filter((line) => /^\s+at /.test(line) && !hidden(line));
}

function framesOf(stack: string): Frame[] {
  const frames: Frame[] = [];
  // Deno writes a frame's URL with its escapes undone: in a folder with a blank in its name it is no URL any more.
  for (const line of stack.replaceAll(plainRoot, root).split("\n")) {
    if (hidden(line)) continue;
    const match = FRAME.exec(line) ?? null;
    const [file, at, column, name] = match ? [match[2], match[3], match[4], match[1]] : locationIn(line);
    if (file === undefined || !file.startsWith(root)) continue;
    frames.push({ file: decodeURIComponent(file.slice(root.length)), line: +at!, column: +column!, function: (name ?? "").slice(0, 200) });
    if (frames.length === 30) break;
  }
  return frames;
}

/** Where user code was, by a stack: the innermost frame of its own, as JSON of a list of one, or of none. */
export function placeIn(stack: unknown): string {
  const [frame] = framesOf(typeof stack === "string" ? stack : "");
  return frame === undefined ? "[]" : `[{"file":${stringify(frame.file)},"line":${frame.line}}]`;
}

function locationIn(line: string): (string | undefined)[] {
  const match = LOCATION.exec(line);
  return match ? [match[1], match[2], match[3], undefined] : [];
}

function typeOf(error: Error & { type?: unknown }): string {
  if ((error instanceof HostError || error instanceof FetchError) && typeof error.type === "string") return error.type;
  const constructed = error.constructor?.name;
  const name = typeof error.name === "string" && error.name ? error.name : "Error";
  return name === "Error" && typeof constructed === "string" && constructed ? constructed : name;
}

function fieldsOf(error: Error & { fields?: unknown }): unknown {
  const validation = error instanceof ValidationError || error.name === "ValidationError";
  return validation && typeof error.fields === "object" ? error.fields : undefined;
}

function stackOf(error: Error, depth: number): string {
  const stack = typeof error.stack === "string" ? error.stack : "";
  const first = stack.split("\n").findIndex((line) => /^\s+at /.test(line));
  const head = stack === "" ? `${error.name}: ${error.message}` : first < 0 ? stack : stack.split("\n").slice(0, first).join("\n");
  let text = [head, ...frameLines(stack)].join("\n");
  if (depth < 4 && error.cause instanceof Error) text += `\nCaused by: ${stackOf(error.cause, depth + 1)}`;
  if (depth < 2 && error instanceof AggregateError) {
    for (const inner of error.errors.slice(0, 5)) if (inner instanceof Error) text += `\nOne of: ${stackOf(inner, depth + 1)}`;
  }
  return text;
}

/** `error`, whatever was thrown, as the JSON text of a frame's `error` member. Never throws. */
export function describe(error: unknown): string {
  try {
    if (!(error instanceof Error) && !(error instanceof DOMException)) {
      const shown = typeof error === "string" ? error : inspect(error, { depth: 3 });
      return json("NonError", `The function threw something that is not an Error: ${shown}`, "", [], undefined);
    }
    const stack = typeof error.stack === "string" ? error.stack : "";
    return json(typeOf(error), String(error.message), stackOf(error, 0), framesOf(stack), fieldsOf(error));
  } catch (failure) {
    try {
      return json("Error", `The error that was thrown can't be read: ${inspect(failure, { depth: 0 })}`, "", [], undefined);
    } catch {
      return '{"type":"Error","message":"The error that was thrown can\'t be read: it throws when it is looked at.","stack":"","frames":[]}';
    }
  }
}

/** Fields as JSON text that the header of a frame can hold: not too long, not too deep, and without halves of surrogate pairs. */
function fieldsText(fields: unknown, message: string): string {
  const text = (stringify(fields) as string | undefined ?? "").replace(/(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/g, "$1\\ufffd");
  let depth = 0, deepest = 0;
  if (text.length <= LONGEST) {
    for (const mark of text.replace(/"(?:[^"\\]|\\.)*"/g, "")) {
      if (mark === "[" || mark === "{") deepest = Math.max(deepest, ++depth);
      else if (mark === "]" || mark === "}") depth--;
    }
    if (deepest <= DEEPEST) return text;
  }
  return stringify({ input: message.slice(0, LONGEST).toWellFormed() });
}

function json(type: string, message: string, stack: string, frames: Frame[], fields: unknown): string {
  let list = "";
  for (const frame of frames) {
    list += `${list && ","}{"file":${stringify(frame.file)},"line":${frame.line},"column":${frame.column},"function":${stringify(frame.function)}}`;
  }
  const object = fields === undefined || fields === null ? "" : fieldsText(fields, message);
  const rest = object.startsWith("{") ? `,"fields":${object}` : "";
  const short = (text: string) => stringify((text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text).replaceAll(root, "functions/").replaceAll(plainRoot, "functions/").toWellFormed());
  return `{"type":${short(type)},"message":${short(message)},"stack":${short(stack)},"frames":[${list}]${rest}}`;
}

/** Like `describe`, for an error met while loading the module: says what a function may not import. */
export function describeLoad(error: unknown): string {
  if (error instanceof Error) {
    const denied = /flux-denied:(?:[\w/-]*:)?([\w/.-]+)/.exec(error.message)?.[1];
    if (denied === "module") {
      retell(error, "ImportError", "Functions can't use CommonJS (`require`, .cjs files): write ES modules, with import and export.");
    } else if (denied !== undefined) {
      retell(error, "ImportError", `Functions can't import \`node:${denied}\`: files, processes, sockets and the machine's own clock and random are out of reach. Use ctx, fetch and the Web APIs.`);
    } else if (/--allow-read/.test(error.message)) {
      retell(error, "ImportError", "A function can import files of its own bundle only.");
    } else if (/Module not found|Cannot find module|not find|--no-remote|Unsupported scheme|--no-npm|npm package|not a dependency/i.test(error.message)) {
      retell(error, "ImportError", error.message.replace(/file:\/\/\S*?bundle\//g, ""));
    } else if (/^SyntaxError: /.test(error.message)) {
      const { line, column } = /:(?<line>\d+):(?<column>\d+)\s*$/.exec(error.message)?.groups ?? {};
      const first = error.message.slice("SyntaxError: ".length).split("\n")[0].replace(/ at file:.*$/, "");
      const where = LOCATION.exec(error.message) ?? LOCATION.exec(error.stack ?? "");
      const at = where ? `\n    at ${where[0]}` : line ? `\n    at ${line}:${column}` : "";
      const drawn = error.message.split("\n").slice(1).filter((text) => text.includes("|") || text.includes("~")).join("\n");
      ObjectDefineProperty(error, "stack", { value: `SyntaxError: ${first}${drawn && `\n${drawn}`}${at}` });
      retell(error, "SyntaxError", first, false);
    }
  }
  return describe(error);
}

function retell(error: Error, name: string, message: string, stack = true): void {
  if (stack) ObjectDefineProperty(error, "stack", { value: [`${name}: ${message}`, ...frameLines(error.stack ?? "")].join("\n") });
  ObjectDefineProperty(error, "name", { value: name });
  ObjectDefineProperty(error, "message", { value: message });
}

/** The error that user code meets when the host answers `op` with one; its stack begins at `site`, where the call was made. */
export function hostError(op: string, error: { type: string; message: string; detail?: Record<string, string> }, site: { stack?: string }): Error {
  const kind = op.startsWith("db.")
    ? DatabaseError
    : op === "fetch"
    ? FetchError
    : op === "invoke"
    ? InvokeError
    : op === "queue.push"
    ? QueueError
    : op === "secrets.get"
    ? SecretError
    : HostError;
  return graft(new kind(error.type, error.message, error.detail ?? {}), site);
}

/** Give `error` the stack of `site`, without the guest's frames: its innermost frame is then the user's. */
export function graft<E extends Error>(error: E, site: { stack?: string }): E {
  const lines = frameLines(site.stack ?? "");
  ObjectDefineProperty(error, "stack", {
    value: `${error.name}: ${error.message}\n${lines.join("\n")}`,
    writable: true,
    configurable: true,
  });
  return error;
}
