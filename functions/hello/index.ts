import { defineFunction } from "@flux/functions";

export default defineFunction({
  name: "hello",
  handler: async ({ input }) => ({ message: `Hello, ${input.name ?? "world"}!` }),
});
