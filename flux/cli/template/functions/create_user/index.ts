import { defineFunction } from "@flux/functions";

interface Input {
  email: string;
  name?: string;
}

export default defineFunction({
  name: "create_user",
  handler: async ({ input, ctx }: { input: Input; ctx: import("@flux/functions").Ctx }) => {
    const [user] = await ctx.db.query({
      table: "users",
      operation: "insert",
      data: { email: input.email, name: input.name ?? null },
    });
    await ctx.queue.push("send_welcome", { userId: user.id });
    return { userId: user.id, email: user.email };
  },
});
