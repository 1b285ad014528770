// What a hostile TypeScript function does, by name. Each is a handler; test_hostile_functions.py serves them.
// deno-lint-ignore-file no-explicit-any

type Given = { input: any; ctx: any };
const held: unknown[] = [];

export const kinds: Record<string, (given: Given) => unknown> = {
  works: () => ({ works: true }),

  // It does not come back.
  loops: () => {
    for (;;);
  },
  loops_in_microtasks: async () => {
    for (;;) await null;
  },
  loops_in_timers: async () => {
    for (;;) await new Promise((done) => setTimeout(done, 0));
  },
  never_settles: () => new Promise(() => {}),
  streams_nothing: () => new Response(new ReadableStream({})),

  // It allocates.
  fills_the_heap: () => {
    for (let n = 0;; n++) held.push(new Array(100_000).fill({ n }));
  },
  fills_buffers: () => {
    for (;;) held.push(new Uint8Array(8 * 2 ** 20).fill(1));
  },
  one_huge_buffer: () => new Uint8Array(2 ** 32).length,
  huge_wasm_memory: () => new WebAssembly.Memory({ initial: 65_000 }).buffer.byteLength,
  huge_string: () => {
    let text = "x".repeat(1000);
    for (;;) text += text;
  },
  streams_without_end: () => new Response(new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(2 ** 20)) })),

  // It returns what JSON can't hold.
  returns_function: () => () => 1,
  returns_symbol: () => Symbol("s"),
  returns_bigint: () => ({ rows: [{ id: 1n }] }),
  returns_cyclic: () => {
    const value: any = { a: {} };
    value.a.b = value;
    return value;
  },
  returns_undefined: () => undefined,
  returns_nan: () => ({ nan: NaN, infinite: -Infinity }),
  returns_promise_inside: () => ({ later: Promise.resolve(1) }),
  returns_instance: () =>
    new (class {
      a = 1;
      #b = 2;
      b() {
        return this.#b;
      }
    })(),
  returns_map: () => new Map([[1, 2]]),
  returns_bytes: () => new Uint8Array(3),
  returns_throwing_getter: () => ({
    get a() {
      throw new TypeError("not to be read");
    },
  }),
  returns_throwing_proxy: () =>
    new Proxy({}, {
      ownKeys() {
        throw new TypeError("no keys");
      },
    }),
  returns_deep: () => {
    let value: any = 1;
    for (let n = 0; n < 100_000; n++) value = [value];
    return value;
  },
  returns_surrogate: () => "\ud800",
  returns_much: () => "x".repeat(3 * 2 ** 20),

  // It throws something else than an Error, or an Error that can't be looked at.
  throws_string: () => {
    throw "a string";
  },
  throws_null: () => {
    throw null;
  },
  throws_undefined: () => {
    throw undefined;
  },
  throws_proxy: () => {
    const no = () => {
      throw kinds.throws_proxy;
    };
    throw new Proxy(class {}, { get: no, getPrototypeOf: no, has: no, ownKeys: no, getOwnPropertyDescriptor: no, apply: no });
  },
  throws_hostile_proxy: () => {
    const trap: any = new Proxy({}, {
      get(): unknown {
        throw new Proxy({}, trap);
      },
    });
    throw new Proxy(new Error("x"), trap);
  },
  throws_unreadable_error: () => {
    const error = new Error("x");
    for (const name of ["message", "stack", "name", "cause", "constructor"]) {
      Object.defineProperty(error, name, {
        get() {
          throw error;
        },
      });
    }
    throw error;
  },
  throws_strange_members: () => {
    throw Object.assign(new Error(), { name: "x".repeat(1e6), message: { toString: () => "y".repeat(1e6) }, stack: 5, fields: [] });
  },
  throws_strange_fields: () => {
    throw Object.assign(new Error("bad"), { name: "ValidationError", fields: { toJSON: () => "text" } });
  },
  throws_huge_fields: () => {
    throw Object.assign(new Error("bad"), { name: "ValidationError", fields: { a: "x".repeat(2 ** 21) } });
  },
  throws_toString: () => {
    throw {
      toString() {
        throw 1;
      },
      [Symbol.for("Deno.customInspect")]() {
        throw 2;
      },
    };
  },
  recurses: () => {
    const f = (): number => f() + 1;
    return f();
  },

  // It would end the process.
  exits: () => (globalThis as any).Deno.exit(1),
  exits_by_node: () => (globalThis as any).process.exit(1),
  closes: () => (globalThis as any).close(),

  // It writes.
  logs_lines: ({ input }) => {
    for (let n = 0; n < input.count; n++) console.log("line", n);
    return "done";
  },
  logs_a_huge_line: ({ ctx }) => {
    ctx.log.info("x".repeat(2 * 2 ** 20), { field: "y".repeat(3 * 2 ** 20) });
    return "done";
  },
  opens_spans: async ({ input, ctx }) => {
    for (let n = 0; n < input.count; n++) await ctx.trace.span(`s${n}`, () => n);
    return "done";
  },

  // It leaves something behind.
  leaves_a_call: ({ ctx }) => {
    ctx.db.sql("select pg_sleep(0.2)");
    return "left";
  },
  leaves_a_long_call: ({ ctx }) => {
    ctx.db.sql("select pg_sleep(60)");
    return "left";
  },
  leaves_timers: () => {
    setInterval(() => {}, 1);
    setTimeout(() => {
      throw new Error("from a timer");
    }, 1);
    return "left";
  },
  leaves_a_rejection: ({ ctx }) => {
    (async () => {
      await null;
      await null;
      await null;
      await ctx.db.sql("select 1");
    })();
    Promise.reject(new Error("nobody's"));
    return "left";
  },
  leaves_a_loop: ({ ctx }) => {
    (async () => {
      for (;;) await ctx.sleep(1);
    })();
    return "left";
  },

  // It makes calls.
  calls_at_once: async ({ ctx }) => {
    const made = await Promise.all([
      ...Array.from({ length: 3000 }, () => ctx.sleep(1)),
      ...Array.from({ length: 300 }, (_, n) => ctx.db.sql("select $1::int as n", [n])),
    ]);
    return made.slice(3000).reduce((sum: number, rows: any) => sum + rows[0].n, 0);
  },
  calls_too_many_at_once: async ({ ctx }) => {
    const all: Promise<void>[] = [];
    for (let n = 0; n < 10_001; n++) all.push(ctx.sleep(60_000));
    await Promise.all(all);
  },
  calls_without_end: async ({ ctx }) => {
    for (;;) await ctx.sleep(0);
  },

  // It answers what HTTP can't carry.
  status_99: () => new Response("x", { status: 99 }),
  status_1000: () => new Response("x", { status: 1000 }),
  status_forged: () => Object.defineProperty(new Response("x"), "status", { value: '200,"i":77,"t":"error"' }),
  headers_forged: () => Object.defineProperty(new Response("x"), "headers", { value: new Map([["a\r\nb", "c"]]) }),
  header_injection: () => new Response("x", { headers: { a: "b\r\nset-cookie: stolen=1" } }),
  header_name: () => new Response("x", { headers: { "a b": "c" } }),
  header_much: () => new Response("x", { headers: { a: "x".repeat(100_000) } }),
  header_of_the_hop: () =>
    new Response("x", { headers: { connection: "close", "transfer-encoding": "chunked", "content-length": "99", "x-request-id": "mine", upgrade: "h2c" } }),
  error_response: () => Response.error(),
  used_response: async () => {
    const response = new Response("x");
    await response.text();
    return response;
  },
  body_fails: () => new Response(new ReadableStream({ pull: (to) => to.error(new Error("broken off")) })),

  // It changes what everything stands on.
  patches: () => {
    const boom = () => {
      throw new Error("patched");
    };
    const realm = globalThis as any;
    for (const [name, methods] of Object.entries({ JSON: ["parse", "stringify"], Math: ["floor"], Reflect: ["apply"], Object: ["keys", "assign", "defineProperty"] })) {
      for (const method of methods) realm[name][method] = boom;
    }
    for (const kind of [Array, Map, Set, Promise, Uint8Array, Function, Response, Headers, TextEncoder, TextDecoder]) {
      for (const method of ["map", "push", "forEach", "get", "set", "delete", "has", "then", "catch", "subarray", "slice", "apply", "call", "bind", "arrayBuffer", "encode", "decode"]) {
        if (method in kind.prototype) (kind.prototype as any)[method] = boom;
      }
    }
    for (const method of ["split", "slice", "replaceAll", "includes", "startsWith", "toWellFormed"]) (String.prototype as any)[method] = boom;
    for (const name of ["Promise", "Date", "Error", "Response", "queueMicrotask", "setTimeout", "Map", "TextEncoder"]) realm[name] = boom;
    return "patched";
  },
};
