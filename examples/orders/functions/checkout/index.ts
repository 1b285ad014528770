import { type Ctx, DatabaseError, defineFunction, type Tx, ValidationError } from "@flux/functions";
import { type Order, orderIn } from "./order.ts";

interface Payment {
  status: "paid" | "declined";
  charge_id: string;
  reason: string;
}

/** The bank said no. Thrown, so that the transaction rolls back. */
class Declined extends Error {}

/**
 * Place an order: reserve the stock, take the money, and have the receipt sent. All of it, or nothing.
 *
 * What the customer can put right is answered (402, 409, 422). What they can't (the provider is broken or silent) is thrown: that is a 500
 * which somebody should look into, and `flux why` says where to begin.
 */
export default defineFunction<Order>({
  name: "checkout",
  handler: async ({ input, ctx }) => {
    const order = orderIn(input);
    try {
      return await ctx.db.transaction((tx) => place(order, tx, ctx));
    } catch (error) {
      return refusal(error);
    }
  },
});

/**
 * The payment is the last thing that can go wrong, for money is what a ROLLBACK doesn't give back: by then the reference is known to be new
 * and the stock to suffice. The rows of its products stay locked while the provider answers, for PAYMENT_SECONDS at most. README.md weighs that.
 */
async function place(order: Order, tx: Tx, ctx: Ctx) {
  const [{ id }] = await tx.query({
    table: "orders",
    operation: "insert",
    data: { reference: order.reference, email: order.email },
    returning: ["id"],
  });
  let cents = 0;
  for (const { sku, quantity } of order.items) {
    cents += await reserve(tx, id, sku, quantity);
  }
  const payment = await ctx.invoke<Payment>("payment", { reference: order.reference, cents, card: order.card });
  if (payment.status === "declined") throw new Declined(payment.reason);
  await tx.query({
    table: "orders",
    operation: "update",
    filters: { id },
    data: { total_cents: cents, charge_id: payment.charge_id },
    returning: [],
  });
  await tx.queue.push("send_receipt", { order: id }); // exists exactly if this commits
  return { order: id, cents, charge: payment.charge_id };
}

/** Take `quantity` out of the stock; the CHECK on it refuses what isn't there. What it costs, in cents. */
async function reserve(tx: Tx, order: string, sku: string, quantity: number): Promise<number> {
  const [product] = await tx.query({ table: "products", operation: "select", filters: { sku }, columns: ["price_cents"] });
  if (!product) throw new ValidationError({ items: `nothing is called ${sku}` });
  await tx.sql("update stock set quantity = quantity - $2 where sku = $1", [sku, quantity]);
  await tx.query({
    table: "order_items",
    operation: "insert",
    data: { order_id: order, sku, quantity, price_cents: product.price_cents },
    returning: [],
  });
  return Number(product.price_cents) * quantity;
}

/** The answer to what a customer can put right; anything else goes on being thrown. */
function refusal(error: unknown): Response {
  if (error instanceof Declined) return answer(402, `The card was declined: ${error.message}.`);
  if (error instanceof DatabaseError && error.constraint === "stock_is_enough") return answer(409, "There is not enough of that left.");
  if (error instanceof DatabaseError && error.constraint === "orders_reference_is_new") return answer(409, "That order was placed already.");
  throw error;
}

const answer = (status: number, message: string) => Response.json({ error: { message } }, { status });
