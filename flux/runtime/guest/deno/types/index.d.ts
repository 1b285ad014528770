/**
 * Types of `@flux/functions`, the module that Flux resolves for its functions. `flux init` copies this file into a project.
 *
 * The rest is the platform: `fetch`, `Response`, `console`, `crypto`, `setTimeout` and so on come from TypeScript's own `DOM` and `ESNext`
 * libraries. The clock, random numbers and timers are the host's, so that an execution can be replayed.
 */
/** A value that JSON can hold. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A row as it comes from Postgres: int8 and numeric are decimal strings, timestamps RFC 3339 text, bytea a Uint8Array. */
// deno-lint-ignore no-explicit-any
export type Row = Record<string, any>;

/** A value for the database: bigint is sent as int8 or numeric, bytes as bytea, a Date as timestamptz, an object or array as JSON. */
export type Value = string | number | bigint | boolean | null | undefined | Date | Uint8Array | ArrayBuffer | object;

/** Rows, and how many there were or were changed. */
export type Rows<R = Row> = R[] & {
  /** Rows returned, or changed where none are returned. */
  readonly count: number;
  /** Postgres' command tag, of `sql` only: `UPDATE 3`. */
  readonly tag?: string;
};

/** A condition on a column: a value means equality, null means IS NULL, a list means any of them. Several operators must all hold. */
export type Condition =
  | Value
  | readonly Value[]
  | {
    eq?: Value;
    ne?: Value;
    gt?: Value;
    gte?: Value;
    lt?: Value;
    lte?: Value;
    like?: string;
    ilike?: string;
    in?: readonly Value[];
    not_in?: readonly Value[];
    is_null?: boolean;
    /** The least and the greatest, both included. */
    between?: readonly [Value, Value];
  };

/** Conditions by column, all of which must hold; `or`, `and` and `not` combine others. */
export type Filters = { or?: Filters[]; and?: Filters[]; not?: Filters } | { [column: string]: Condition };

/** What to order by: a column, `-column` for descending, or both by name. */
export type Order = string | { column: string; direction?: "asc" | "desc"; nulls?: "first" | "last" };

/** What an insert does about a row that is there already. */
export interface OnConflict {
  /** The columns of the unique key, or the constraint's name: one of the two. */
  columns?: string[];
  constraint?: string;
  /** `update` by default. */
  do?: "nothing" | "update";
  /** The columns to take from the new row; all that were given by default. */
  update?: string[];
}

/** Select rows. */
export interface SelectSpec {
  /** `users`, or `schema.users`. */
  table: string;
  operation: "select";
  filters?: Filters;
  /** All by default. */
  columns?: string[];
  order?: Order | Order[];
  limit?: number;
  offset?: number;
}

/** Insert one row, or several. */
export interface InsertSpec {
  table: string;
  operation: "insert";
  data: Record<string, Value> | Record<string, Value>[];
  on_conflict?: OnConflict;
  /** Columns of the new rows to return: all by default, none for `[]`. */
  returning?: string[];
}

/** Change rows. Every row of the table only with `filters: {}` and `all: true`. */
export interface UpdateSpec {
  table: string;
  operation: "update";
  filters: Filters;
  data: Record<string, Value>;
  returning?: string[];
  all?: true;
}

/** Delete rows. Every row of the table only with `filters: {}` and `all: true`. */
export interface DeleteSpec {
  table: string;
  operation: "delete";
  filters: Filters;
  returning?: string[];
  all?: true;
}

/** A query by its parts. */
export type QuerySpec = SelectSpec | InsertSpec | UpdateSpec | DeleteSpec;

/** Queries on the user's database. Each is recorded with its result and the rows that it changed. */
export interface Queries {
  /**
   * Run a query given by its parts; insert, update and delete return the rows.
   * @throws {DatabaseError} what Postgres refused
   */
  query<R = Row>(spec: QuerySpec): Promise<Rows<R>>;
  /**
   * Run a statement with parameters `$1`, `$2`...
   * @throws {DatabaseError} what Postgres refused
   */
  sql<R = Row>(text: string, params?: readonly Value[]): Promise<Rows<R>>;
}

/** A transaction that is open. */
export interface Tx extends Queries {
  /** Jobs pushed here exist if the transaction commits. */
  readonly queue: Queue;
}

/** How a transaction runs. */
export interface TransactionOptions {
  /** `read committed` by default. */
  isolation?: "read committed" | "repeatable read" | "serializable";
  readonly?: boolean;
}

/** The user's database. */
export interface Db extends Queries {
  /** Run `work` in a transaction: committed when it returns, rolled back when it throws. Its result is returned. */
  transaction<T>(work: (tx: Tx) => Promise<T> | T, options?: TransactionOptions): Promise<T>;
}

/** How a job is run. */
export interface PushOptions {
  /** Milliseconds to wait before it may run. */
  delay?: number;
  /** A second push with the same key is no second job. */
  idempotencyKey?: string;
  maxAttempts?: number;
}

/** The queue. */
export interface Queue {
  /** Have the function `name` run later with `payload` as its input. */
  push(name: string, payload?: unknown, options?: PushOptions): Promise<{ id: string; duplicate: boolean }>;
}

/** Writes a line to the execution's log. A second argument that is an object is kept as fields that can be searched. */
export interface LogLevel {
  (message: unknown, fields?: Record<string, unknown>): void;
  (...values: unknown[]): void;
}

/** The log; called itself, its level is info. */
export interface Log extends LogLevel {
  debug: LogLevel;
  info: LogLevel;
  warn: LogLevel;
  error: LogLevel;
}

/** The request behind an invocation. */
export interface FunctionRequest {
  readonly method: string;
  readonly url: string;
  readonly path: string;
  /** Parameters of the route: `/users/{id}` gives `id`. */
  readonly params: Readonly<Record<string, string>>;
  /** The query by name; several values where a name was given more than once. */
  readonly query: Readonly<Record<string, string | string[]>>;
  readonly headers: Headers;
  /** The body: the value of JSON, the text of anything else, null where it is empty. */
  readonly body: Json;
  /** The body as it came. */
  bytes(): Uint8Array;
  /** The body as text. */
  text(): string;
  /** The body, parsed. */
  json(): unknown;
}

/** What a handler can do. */
export interface Ctx {
  readonly request: FunctionRequest;
  /** The execution's identity: what `flux trace` and `flux why` take. */
  readonly requestId: string;
  readonly traceId: string;
  readonly spanId: string;
  /** The environment variables that flux.toml lists under `env`. */
  readonly env: Readonly<Record<string, string>>;
  readonly log: Log;
  readonly db: Db;
  readonly queue: Queue;
  readonly secrets: {
    /** A secret's value; `fallback` where there is none. The record names it and its version, never its value. */
    get(key: string): Promise<string>;
    get(key: string, fallback: string): Promise<string>;
  };
  readonly trace: {
    /** Run `work` inside a span of the trace; what it calls is shown below it. */
    span<T>(name: string, work: () => Promise<T> | T, attributes?: Record<string, Json>): Promise<T>;
  };
  /**
   * Run the function `name` now, as a child execution in the same trace, and return its output.
   * @throws {InvokeError} it failed
   */
  invoke<Output = unknown>(name: string, payload?: unknown): Promise<Output>;
  /** Wait `ms` milliseconds. */
  sleep(ms: number): Promise<void>;
  /**
   * Keep the execution open after its answer until `work` has settled, within the function's `timeout_ms`. What fails in it is a warning of
   * the execution; the answer has left.
   */
  waitUntil(work: PromiseLike<unknown>): void;
  /** The global fetch. */
  readonly fetch: typeof globalThis.fetch;
}

/** What a handler is given. */
export interface Given<Input> {
  /** The parsed JSON body; with GET, the query; null where nothing came. */
  input: Input;
  ctx: Ctx;
}

/** Runs the function once. What it returns is sent as JSON, or as it is where it is a Response. */
export type Handler<Input, Output> = (given: Given<Input>) => Promise<Output | Response> | Output | Response;

/** A function and its name, which is the folder's. */
export interface FunctionDefinition<Input, Output> {
  name: string;
  handler: Handler<Input, Output>;
}

/**
 * Declare a function; the module's default export.
 *
 * @example
 * export default defineFunction({ name: "create_user", handler: async ({ input, ctx }) => {
 *   const [user] = await ctx.db.query({ table: "users", operation: "insert", data: { email: input.email } });
 *   return { userId: user.id };
 * } });
 */
// deno-lint-ignore no-explicit-any
export function defineFunction<Input = any, Output = unknown>(
  definition: FunctionDefinition<Input, Output>,
): FunctionDefinition<Input, Output>;

/** Throw it for an input that isn't acceptable: the answer is 422 with `fields`. */
export class ValidationError extends Error {
  /** What is wrong with which field. */
  readonly fields: Record<string, unknown>;
  constructor(fields: Record<string, unknown>, message?: string);
}

/** What the host answered instead of a result. */
export class HostError extends Error {
  /** A stable class of error, as recorded: `unique_violation`. */
  readonly type: string;
  /** What the source of the error said besides. */
  readonly detail: Readonly<Record<string, string>>;
  protected constructor();
}

/** A statement failed in Postgres; `type` is the condition's name (`unique_violation`). */
export class DatabaseError extends HostError {
  /** The SQLSTATE: `23505`. */
  readonly code: string | undefined;
  /** The violated constraint. */
  readonly constraint: string | undefined;
  readonly table: string | undefined;
  readonly column: string | undefined;
  protected constructor();
}

/** A request could not be made; `type` is one of those listed. A response with a bad status is not an error. */
export class FetchError extends TypeError {
  readonly type: "ConnectError" | "TimeoutError" | "DNSError" | "TLSError" | "InvalidURL" | "TooManyRedirects";
  readonly detail: Readonly<Record<string, string>>;
  protected constructor();
}

/** An invoked function failed: `type` is its error's, `detail` has its `request_id` and `status`. */
export class InvokeError extends HostError {
  protected constructor();
}

/** A job could not be pushed. */
export class QueueError extends HostError {
  protected constructor();
}

/** A secret could not be read. */
export class SecretError extends HostError {
  protected constructor();
}
