// The module `@flux/functions`: what user code imports. Its types are in types/index.d.ts. It imports nothing: user code may
// read it, and only it.

/** Marks what defineFunction returns. */
const DEFINED = Symbol.for("flux.function");

/** Declare a function: its name (the folder's) and its handler. */
export function defineFunction(definition: { name?: string; handler: unknown }): unknown {
  if (definition === null || typeof definition !== "object" || typeof definition.handler !== "function") {
    throw new TypeError("defineFunction takes { name, handler: async ({ input, ctx }) => ... }.");
  }
  return { ...definition, [DEFINED]: true };
}

/** Thrown by a handler whose input is not acceptable: answered with 422 and `fields`. */
export class ValidationError extends Error {
  readonly fields: Record<string, unknown>;

  constructor(fields: Record<string, unknown>, message = "The input is not valid.") {
    super(message);
    this.fields = fields;
  }

  static {
    ValidationError.prototype.name = "ValidationError";
  }
}

/** What the host answered instead of a result. */
export class HostError extends Error {
  /** A stable class of error, as recorded: `unique_violation`, `TimeoutError`... */
  readonly type: string;
  /** What the source of the error said besides. */
  readonly detail: Record<string, string>;

  constructor(type: string, message: string, detail: Record<string, string>) {
    super(message);
    this.type = type;
    this.detail = detail;
  }

  static {
    HostError.prototype.name = "HostError";
  }
}

/** A statement failed in Postgres. */
export class DatabaseError extends HostError {
  /** The SQLSTATE: `23505`. */
  readonly code: string | undefined;
  /** The violated constraint's name. */
  readonly constraint: string | undefined;
  readonly table: string | undefined;
  readonly column: string | undefined;

  constructor(type: string, message: string, detail: Record<string, string>) {
    super(type, message, detail);
    this.code = detail.sqlstate;
    this.constraint = detail.constraint;
    this.table = detail.table;
    this.column = detail.column;
  }

  static {
    DatabaseError.prototype.name = "DatabaseError";
  }
}

/** A request could not be made; a response with a bad status is not an error. A TypeError, as fetch's errors are everywhere. */
export class FetchError extends TypeError {
  readonly type: string;
  readonly detail: Record<string, string>;

  constructor(type: string, message: string, detail: Record<string, string>) {
    super(message);
    this.type = type;
    this.detail = detail;
  }

  static {
    FetchError.prototype.name = "FetchError";
  }
}

/** An invoked function failed. `type` is its error's; `detail` has its request_id and status. */
export class InvokeError extends HostError {
  static {
    InvokeError.prototype.name = "InvokeError";
  }
}

/** A job could not be pushed. */
export class QueueError extends HostError {
  static {
    QueueError.prototype.name = "QueueError";
  }
}

/** A secret could not be read. */
export class SecretError extends HostError {
  static {
    SecretError.prototype.name = "SecretError";
  }
}
