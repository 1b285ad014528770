// Events, signals and who of several aborts first.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_events", handler: async ({ ctx }) => {
  const order: unknown[] = [], target = new EventTarget(), mine = new AbortController();
  target.addEventListener("x", (e) => order.push(["x", e.timeStamp])); target.addEventListener("x", () => order.push("once"), { once: true });
  const any = AbortSignal.any([AbortSignal.timeout(4), mine.signal]); any.onabort = () => order.push(String(any.reason));
  await Promise.all([ctx.sleep(Math.random() * 8).then(() => mine.abort("mine")), ctx.sleep(2).then(() => target.dispatchEvent(new Event("x"))), fetch("http://127.0.0.1:4390/d?k=1", { signal: any }).then(() => order.push("f"), (e) => order.push(String(e)))]);
  target.dispatchEvent(new CustomEvent("x", { detail: 1 }));
  return order;
}});
