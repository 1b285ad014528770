import { defineFunction, type Tx, ValidationError } from "@flux/functions";

interface Transfer {
  from: string;
  to: string;
  cents: number;
}

export default defineFunction<Transfer, { id: string }>({
  name: "transfer",
  handler: async ({ input, ctx }) => {
    if (!Number.isInteger(input.cents) || input.cents <= 0) {
      throw new ValidationError({ cents: "must be a whole number above 0" });
    }
    return await ctx.db.transaction(async (tx) => {
      const [entry] = await tx.query({
        table: "transfers",
        operation: "insert",
        data: { sender: input.from, receiver: input.to, cents: input.cents },
      });
      await move(tx, input.to, input.cents);
      await move(tx, input.from, -input.cents);
      await tx.queue.push("statement", { account: input.from });
      return { id: entry.id };
    });
  },
});

async function move(tx: Tx, account: string, cents: number) {
  await tx.sql("update accounts set cents = cents + $2 where name = $1", [account, cents]);
}
