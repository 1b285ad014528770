// ctx.db: queries, SQL and transactions as host calls.

import { ask, call, site } from "./host.ts";
import { fromBase64, hasOwn, isArray, stringify } from "./primordials.ts";
import { push, type PushOptions } from "./queue.ts";
import { json } from "./value.ts";

interface Answer {
  rows: Record<string, unknown>[];
  count: number;
  tag?: string;
  types?: Record<string, string>;
}

type Rows = Record<string, unknown>[] & { count: number; tag?: string };

function decode({ rows, count, tag, types }: Answer): Rows {
  if (types !== undefined) {
    for (const column of Object.keys(types)) {
      if (types[column] !== "bytea") continue;
      for (const row of rows) {
        const value = row[column] as { $bytea?: string } | null;
        if (value !== null && typeof value === "object" && hasOwn(value, "$bytea")) row[column] = fromBase64(value.$bytea!);
      }
    }
  }
  Object.defineProperty(rows, "count", { value: count, enumerable: false });
  if (tag !== undefined) Object.defineProperty(rows, "tag", { value: tag, enumerable: false });
  return rows as Rows;
}

/** What `ctx.db` and a transaction share. */
class Queries {
  readonly #tx: number | undefined;

  constructor(tx: number | undefined) {
    this.#tx = tx;
  }

  /** A query by its parts. */
  async query(spec: Record<string, unknown>): Promise<Rows> {
    return decode(await call<Answer>("db.query", json(spec, "What ctx.db.query was given"), this.#tx));
  }

  /** A statement with `$1`... */
  async sql(text: string, params: unknown[] = []): Promise<Rows> {
    if (typeof text !== "string") throw new TypeError("ctx.db.sql takes the statement's text and an array of parameters.");
    if (!isArray(params)) throw new TypeError("ctx.db.sql takes its parameters as an array.");
    return decode(await call<Answer>("db.sql", `{"text":${stringify(text)},"params":${json(params, "The parameters of ctx.db.sql")}}`, this.#tx));
  }
}

class Transaction extends Queries {
  readonly queue: { push: (name: string, payload?: unknown, options?: PushOptions) => Promise<unknown> };

  constructor(tx: number) {
    super(tx);
    this.queue = { push: (name, payload, options) => push(name, payload, options, tx) };
  }
}

class Database extends Queries {
  constructor() {
    super(undefined);
  }

  /** Run `work` in a transaction: committed when it returns, rolled back when it throws. */
  async transaction<T>(
    work: (tx: Transaction) => Promise<T> | T,
    { isolation, readonly }: { isolation?: string; readonly?: boolean } = {},
  ): Promise<T> {
    if (typeof work !== "function") throw new TypeError("ctx.db.transaction takes a function: async (tx) => { ... }.");
    const at = site();
    const begun = ask("db.begin", stringify({ isolation, readonly }), undefined, at);
    await begun.answer;
    let result: T;
    try {
      result = await work(new Transaction(begun.n));
    } catch (error) {
      await call("db.rollback", "{}", begun.n, at).catch(() => undefined);
      throw error;
    }
    await call("db.commit", "{}", begun.n, at);
    return result;
  }
}

export const db = Object.freeze(new Database());
