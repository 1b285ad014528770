// The last of the confinement: once it has connected to the host, the process gives up, for all its threads and for good, to connect, to
// execute and to change files. The filter of system calls comes as an argument; the C library sets it. What needs the right to call it is
// given up too, before user code is loaded. Linux only: elsewhere there is no filter.

const deno = Deno;
const numbers: Record<string, bigint> = { x86_64: 317n, aarch64: 277n };
const SET_MODE_FILTER = 1n;
const ALL_THREADS = 1n;

/** Take the filter on. Throws where the kernel refuses. */
export function narrow(): void {
  const [, library, hex] = deno.args;
  if (!library) return;
  const filter = new Uint8Array(hex.length / 2);
  for (let at = 0; at < filter.length; at++) filter[at] = parseInt(hex.slice(2 * at, 2 * at + 2), 16);
  const libc = deno.dlopen(library, {
    memcpy: { parameters: ["buffer", "buffer", "usize"], result: "usize" },
    syscall: { parameters: ["i64", "i64", "i64", "buffer"], result: "i64" },
  });
  // What memcpy returns is where the filter lies.
  const address = libc.symbols.memcpy(filter, filter, 0n);
  const program = new DataView(new ArrayBuffer(16));
  program.setUint16(0, filter.length / 8, true);
  program.setBigUint64(8, address, true);
  const result = libc.symbols.syscall(numbers[deno.build.arch], SET_MODE_FILTER, ALL_THREADS, new Uint8Array(program.buffer));
  libc.close();
  deno.permissions.revokeSync({ name: "ffi" });
  if (result !== 0n) throw new Error("The kernel refuses the filter of system calls.");
}
