// ctx.queue, ctx.invoke and ctx.secrets as host calls.

import { call } from "./host.ts";
import { stringify } from "./primordials.ts";
import { json } from "./value.ts";

/** How a job is to be run. */
export interface PushOptions {
  delay?: number;
  idempotencyKey?: string;
  maxAttempts?: number;
}

/** Push a job for the function `name`; `tx` makes it part of a transaction. */
export function push(name: string, payload?: unknown, options: PushOptions = {}, tx?: number): Promise<unknown> {
  const args = `{"name":${text(name, "ctx.queue.push")},"payload":${json(payload, `The payload for \`${name}\``)},"options":${json(options, "The options of ctx.queue.push")}}`;
  return call("queue.push", args, tx);
}

/** Run the function `name` now and return its output. */
export function invoke(name: string, payload?: unknown): Promise<unknown> {
  return call("invoke", `{"name":${text(name, "ctx.invoke")},"payload":${json(payload, `The payload for \`${name}\``)}}`);
}

/** A secret's value, or `fallback` where there is none. */
export async function secret(key: string, fallback?: string): Promise<string | null> {
  const rest = fallback === undefined ? "" : `,"fallback":${stringify(String(fallback))}`;
  return (await call<{ value: string | null }>("secrets.get", `{"key":${text(key, "ctx.secrets.get")}${rest}}`)).value;
}

function text(value: unknown, where: string): string {
  if (typeof value !== "string" || value === "") throw new TypeError(`${where} takes a name, a non-empty string.`);
  return stringify(value);
}
