// Numbers of timers, which a process counts.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_timer_ids", handler: async ({ input, ctx }) => {
  const ids: unknown[] = [];
  ids.push(setTimeout(() => {}, 1), setInterval(() => {}, 50), setTimeout(() => ids.push("ran"), 2));
  clearTimeout(ids[0] as number); clearInterval(ids[1] as number); clearTimeout(999); clearTimeout("x" as unknown as number);
  await ctx.sleep(5);
  ids.push(setTimeout(() => {}, 0));
  await new Promise((done) => setTimeout(done, 1));
  return ids;
}});
