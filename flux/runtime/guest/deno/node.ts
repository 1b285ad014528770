// Node's harmless built-in modules, for bundles that ask for them: loaded while what they need at their start (Deno, process) is still
// there. Of node:crypto there is what node_crypto.ts offers. The import map keeps all others out, node:module too, and with it CommonJS, whose `require` knows no import map.

const readDirSync = Deno.readDirSync;
const readTextFileSync = Deno.readTextFileSync;
const deno = Deno;
const ASKS = /["'](?:node:[\w/]+|assert|async_hooks|buffer|crypto|events|path|punycode|querystring|string_decoder|url|util)(?:\/\w+)?["']/;

/** Whether a source file in the folder names a module of Node. */
export function needsNode(folder: string): boolean {
  for (const entry of readDirSync(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory ? needsNode(path) : /\.m?[jt]sx?$/.test(entry.name) && ASKS.test(readTextFileSync(path))) return true;
  }
  return false;
}

/** Load the harmless modules. Called before any user code. */
export async function prepareNode(): Promise<void> {
  // deno-lint-ignore no-explicit-any
  const realm = globalThis as any;
  realm.Deno = deno;
  try {
    await Promise.all([
      import("node:assert"), import("node:assert/strict"), import("node:buffer"), import("node:events"), import("node:path"),
      import("node:path/posix"), import("node:path/win32"), import("node:punycode"), import("node:querystring"),
      import("node:string_decoder"), import("node:url"), import("node:util"), import("node:util/types"), import("./node_crypto.ts"),
    ]);
  } finally {
    for (const name of ["Deno", "process", "setImmediate", "clearImmediate"]) delete realm[name];
  }
}
