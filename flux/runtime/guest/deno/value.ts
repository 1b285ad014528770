// JSON with errors that say what can't be written and where it is.

import { isArray, stringify, utf8 } from "./primordials.ts";

/** Bytes of JSON or body that one frame may carry. */
const LARGEST = 200 * 2 ** 20;

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

/** `body` as it is; throws where it is larger than a frame may be. `what` begins the message of the error. */
export function fitting<T extends string | Uint8Array>(body: T, what: string): T {
  const size = typeof body === "string" && body.length > LARGEST / 3 ? utf8(body).length : body.length;
  if (size > LARGEST) throw new RangeError(`${what} is too large: ${Math.ceil(size / 2 ** 20)} MiB, of ${LARGEST / 2 ** 20} that can be sent at once.`);
  return body;
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
