// JSON with errors that say what can't be written and where it is.

import { isArray, stringify } from "./primordials.ts";

/** Thrown where a value can't be written as JSON. */
export class JSONError extends TypeError {
  static {
    JSONError.prototype.name = "JSONError";
  }
}

/** `value` as JSON text; undefined becomes null. `what` begins the message of the error. */
export function json(value: unknown, what: string): string {
  if (value === undefined) return "null";
  let text: string | undefined;
  try {
    text = stringify(value);
  } catch (error) {
    const found = find(value, "", []);
    if (found !== undefined) throw new JSONError(`${what} can't be written as JSON: ${found}`);
    throw error;
  }
  if (text === undefined) throw new JSONError(`${what} can't be written as JSON: it is a ${typeof value}.`);
  return text;
}

function find(value: unknown, path: string, above: object[]): string | undefined {
  const where = path === "" ? "it" : `\`${path}\``;
  if (typeof value === "bigint") return `${where} is a BigInt; write it as a string.`;
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
