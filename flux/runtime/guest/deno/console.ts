// console.* and ctx.log as `log` notes of the invocation they happen in; outside any, as lines on stderr. Also where errors go that
// nobody handles.

import { note } from "./host.ts";
import { scope, sources, told } from "./invocation.ts";
import { uncaught } from "./leftovers.ts";
import { json } from "./value.ts";
import { isArray, mapDelete, mapGet, mapSet, ObjectDefineProperty, stringify, utf8 } from "./primordials.ts";

// deno-lint-ignore no-explicit-any
const internal = (Deno as any)[(Deno as any).internal];
const RealConsole = internal.Console as new (print: (text: string, level: number) => void) => Console;
const inspectArgs = internal.inspectArgs as (args: unknown[]) => string;
const writeError = Deno.stderr.writeSync.bind(Deno.stderr);
const LEVELS = ["debug", "info", "warn", "error", "error"];
const LONGEST = 256 * 1024;

/** Write a line to stderr: the host shows it with the function's name. */
export function stray(text: string): void {
  writeError(utf8(text.endsWith("\n") ? text : `${text}\n`));
}

/** Log one line. `fields` is JSON text of an object, or undefined. */
export function log(level: string, message: string, fields?: string): void {
  const text = (message.length > LONGEST ? `${message.slice(0, LONGEST)}…` : message).toWellFormed();
  const json = `{"level":"${level}","message":${stringify(text)}${fields === undefined ? "" : `,"fields":${fields}`}}`;
  if (note("log", json) === 0) stray(`${level}: ${text}`);
}

/** An error that nobody handled: it belongs to the running invocation, as a line of its log and as a warning, but doesn't end it. */
export function report(error: unknown, promise?: object): void {
  const invocation = scope()?.invocation;
  const late = invocation?.answered === true ? "After the handler had returned, nobody" : "Nobody";
  const text = uncaught(invocation, error, `${late} caught: `, promise);
  if (text === undefined) return;
  if (invocation?.ended === false) log("error", `Unhandled: ${text}`);
  else if (invocation?.closed !== false) stray(`Unhandled after the handler had returned: ${text}`);
}

function fieldsOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || isArray(value) || value instanceof Error) return undefined;
  try {
    const text = json(value, "Fields");
    return text.startsWith("{") ? text : undefined;
  } catch {
    return shownFields(value as Record<string, unknown>);
  }
}

/** Fields of which some can't be JSON: those as text, for logging never fails. */
function shownFields(value: Record<string, unknown>): string | undefined {
  try {
    let list = "";
    for (const name of Object.keys(value)) {
      let text: string;
      try {
        text = json(value[name], "A field");
      } catch {
        text = stringify(inspectArgs([value[name]]));
      }
      list += `${list && ","}${stringify(name)}:${text}`;
    }
    return `{${list}}`;
  } catch {
    return undefined;
  }
}

function logger(level: string) {
  return (...args: unknown[]): void => {
    const fields = args.length === 2 && typeof args[0] === "string" ? fieldsOf(args[1]) : undefined;
    log(level, inspectArgs(fields === undefined ? args : [args[0]]), fields);
  };
}

/** `ctx.log`: callable (info), with a method per level. */
export const ctxLog = Object.freeze(
  Object.assign(logger("info"), { debug: logger("debug"), info: logger("info"), warn: logger("warn"), error: logger("error") }),
);

/** Replace the realm's console and take over what nobody handles. Called once, before user code. */
export function installConsole(): void {
  const fresh = new RealConsole((text, level) => {
    const line = text.endsWith("\n") ? text.slice(0, -1) : text;
    if (line !== "" || level !== 4) log(LEVELS[level] ?? "info", line);
  });
  // The runtime counts, times and indents for the process; here it is the invocation.
  const elapsed = (label: string) => `${label}: ${(sources().now - (mapGet(told().times, label) ?? sources().now)) / 1000}ms`;
  fresh.time = (label = "default") => mapSet(told().times, `${label}`, sources().now);
  fresh.timeLog = (label = "default", ...rest) => fresh.info(elapsed(`${label}`), ...rest);
  fresh.timeEnd = (label = "default") => {
    fresh.info(elapsed(`${label}`));
    mapDelete(told().times, `${label}`);
  };
  fresh.count = (label = "default") => {
    const { counts } = told();
    const count = (mapGet(counts, `${label}`) ?? 0) + 1;
    mapSet(counts, `${label}`, count);
    fresh.info(`${label}: ${count}`);
  };
  fresh.countReset = (label = "default") => void mapDelete(told().counts, `${label}`);
  ObjectDefineProperty(fresh, "indentLevel", { get: () => told().indent, set: (indent: number) => told().indent = indent, enumerable: false });
  ObjectDefineProperty(globalThis, "console", { value: fresh, writable: true, configurable: true, enumerable: false });
  addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    report(event.reason, event.promise);
  });
  addEventListener("error", (event) => {
    event.preventDefault();
    report(event.error);
  });
}
