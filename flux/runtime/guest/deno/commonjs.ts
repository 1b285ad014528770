// CommonJS modules reach Node's built-ins by `require`, past the import map: a bundle that has any gets a `require` that asks
// the same list. Loaded only then, since node:module costs 30 ms.

const readDirSync = Deno.readDirSync;
const readTextFileSync = Deno.readTextFileSync;
const ALLOWED = new Set(["assert", "async_hooks", "buffer", "events", "path", "punycode", "querystring", "string_decoder", "url", "util"]);

/** Whether the folder holds CommonJS. */
export function hasCommonJs(folder: string): boolean {
  for (const entry of readDirSync(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory ? entry.name === "node_modules" || hasCommonJs(path) : /\.c[jt]s$/.test(entry.name)) return true;
    if (entry.name === "package.json" && !/"type"\s*:\s*"module"/.test(readTextFileSync(path))) return true;
  }
  return false;
}

/** Guard `require`. Called before any user code. */
export async function guardRequire(): Promise<void> {
  // deno-lint-ignore no-explicit-any
  const Module = (await import("node:module")).default as any;
  const load = Module._load;
  const builtins = new Set<string>(Module.builtinModules);
  const guard = (request: string) => {
    const name = request.replace(/^node:/, "");
    if ((request !== name || builtins.has(name)) && !ALLOWED.has(name)) throw new Error(`flux-denied:${name}`);
  };
  Module._load = function (request: string, ...rest: unknown[]) {
    guard(request);
    return load.call(this, request, ...rest);
  };
  Module.createRequire = () => {
    throw new Error("flux-denied:module");
  };
  Module.syncBuiltinESMExports = () => undefined;
}
