// A Deno guest with every permission of Deno's, confined as the real one is: what is refused here, the kernel refuses. Run with the path
// of the host's socket, the C library, the filter, the folder of the guest's code and the process id of the spawner.
const [door, library, , guest, spawner] = Deno.args;
Object.defineProperty(Deno.permissions, "revokeSync", { value: () => ({ state: "granted" }) });
const { open } = await import(`${guest}/frames.ts`);
const { narrow } = await import(`${guest}/confine.ts`);
const wire = await open();
narrow();

const libc = Deno.dlopen(library, {
  syscall: { parameters: ["i64", "i64", "i64", "i64"], result: "i64" },
});
const call = (number: bigint, ...given: bigint[]) => {
  const [a = 0n, b = 0n, c = 0n] = given;
  if (libc.symbols.syscall(number, a, b, c) === -1n) throw new Error("refused");
};
const attacks: Record<string, () => unknown> = {
  "a command": () => new Deno.Command("/bin/sh", { args: ["-c", "true"] }).outputSync(),
  "a command that it may execute": () => new Deno.Command(Deno.execPath(), { args: ["--version"] }).outputSync(),
  "a Unix socket": () => Deno.connect({ transport: "unix", path: door }),
  "a TCP connection": () => Deno.connect({ hostname: "127.0.0.1", port: 9 }),
  "a listening socket": () => Deno.listen({ port: 0 }),
  "a file of the machine": () => Deno.readTextFileSync("/etc/passwd"),
  "another process's environment": () => Deno.readTextFileSync(`/proc/${spawner}/environ`),
  "its own environment": () => Deno.readTextFileSync("/proc/self/environ"),
  "a new file": () => Deno.writeTextFileSync("/tmp/flux-attack", "x"),
  "a file in its cache": () => Deno.writeTextFileSync(`${Deno.env.get("DENO_DIR")}/more`, "x"),
  "a folder in its cache": () => Deno.mkdirSync(`${Deno.env.get("DENO_DIR")}/more`),
  "a change of its code": () => Deno.writeTextFileSync("bundle/x", "x"),
  "a signal to the spawner": () => Deno.kill(Number(spawner), "SIGKILL"),
  "a signal to all": () => Deno.kill(-1, "SIGKILL"),
  "another filter": () => call(Deno.build.arch === "x86_64" ? 317n : 277n, 1n),
  "clone": () => call(Deno.build.arch === "x86_64" ? 56n : 220n, 17n),
  "pidfd_open": () => call(434n, BigInt(spawner)),
  "io_uring_setup": () => call(425n, 1n),
};
const reached: string[] = [];
for (const [name, attack] of Object.entries(attacks)) {
  try {
    await attack();
    reached.push(name);
  } catch {
    // Refused.
  }
}
wire.send(JSON.stringify({ t: "booted", guest: { reached: reached.join(", "), tried: Object.keys(attacks).length } }));
wire.flush();
await wire.serve(() => {});
