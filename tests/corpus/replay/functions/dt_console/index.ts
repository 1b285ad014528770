// Counters, groups and timers of the console, which a process keeps.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_console", handler: async ({ input, ctx }) => {
  console.time("t");
  console.count(); console.count("a"); console.count();
  console.group("outer"); console.log("inside", input.n); await ctx.sleep(1); console.group(); console.info("deeper"); console.groupEnd(); console.log("outer again");
  console.countReset("a"); console.count("a");
  console.timeLog("t", { k: 1 }); await ctx.sleep(2); console.timeEnd("t");
  if (input.n % 2) console.groupEnd();
  console.table([{ a: 1, b: 2 }]); console.dir({ deep: { deep: { deep: 1 } } }); console.assert(false, "asserted");
  return input.n;
}});
