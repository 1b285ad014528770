// Paths in values: stacks, import.meta, call sites.
import { defineFunction } from "@flux/functions";
import { where } from "./deep/where.ts";

export default defineFunction({ name: "dt_stack", handler: async ({ input, ctx }) => {
  const site: { stack?: string } = {}; Error.captureStackTrace(site);
  let late = ""; try { await (async () => { await ctx.sleep(1); throw new RangeError("late"); })(); } catch (e) { late = (e as Error).stack!; }
  let thrown = ""; try { JSON.parse("{"); } catch (e) { thrown = (e as Error).stack!; }
  if (input.n % 3 === 0) throw new Error(`at ${import.meta.url}: ${new Error("inner").stack}`);
  return { stack: new Error("x").stack, site: site.stack, url: import.meta.url, dir: import.meta.dirname, file: import.meta.filename, main: import.meta.main, resolved: import.meta.resolve("./lib.ts"), where: where(), late, thrown, fn: String(new Function("return new Error('f').stack")()) };
}});
