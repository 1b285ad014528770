// Streams that are teed, piped and cancelled over timers.
import { defineFunction } from "@flux/functions";

export default defineFunction({ name: "dt_streams", handler: async ({ ctx }) => {
  const order: string[] = []; let i = 0;
  const source = () => new ReadableStream<string>({ async pull(c) { await ctx.sleep(1); if (i > 5) return c.close(); c.enqueue("v" + i++); }, cancel() { order.push("cancelled"); } });
  const [a, b] = source().tee();
  const read = async (name: string, s: ReadableStream<string>) => { for await (const x of s) order.push(name + x); };
  await Promise.all([read("a", a), read("b", b.pipeThrough(new TransformStream({ async transform(x, c) { await ctx.sleep(0); c.enqueue(x + "!"); } }))), ctx.sleep(3).then(() => order.push("s"))]);
  i = 0; const reader = source().getReader(); await reader.read(); await reader.cancel();
  return { order, text: await new Response(ReadableStream.from(["x", "y"]).pipeThrough(new TextEncoderStream())).text() };
}});
