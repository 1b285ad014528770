import { ValidationError } from "@flux/functions";

/** What a customer sends. */
export interface Order {
  /** Chosen by the client: sending the same order twice places it once. */
  reference: string;
  email: string;
  /** The provider's token for a card, and whose it is: that the record leaves out (`redact` in flux.toml). */
  card: { token: string; holder: string };
  items: { sku: string; quantity: number }[];
}

/**
 * The order, its items sorted: everyone takes the products' rows in the same order, so that no two checkouts wait for each other.
 *
 * @throws {ValidationError} with all that is wrong, not the first alone
 */
export function orderIn(input: Order): Order {
  const wrong: Record<string, string> = {};
  if (!text(input?.reference)) wrong.reference = "is missing";
  if (!text(input?.email) || !input.email.includes("@")) wrong.email = "is no address";
  if (!text(input?.card?.token)) wrong["card.token"] = "is missing";
  if (!Array.isArray(input?.items) || input.items.length === 0) wrong.items = "is empty";
  else input.items.forEach((item, at) => {
    if (!text(item?.sku)) wrong[`items[${at}].sku`] = "is missing";
    if (!Number.isSafeInteger(item?.quantity) || item.quantity < 1) wrong[`items[${at}].quantity`] = "must be a whole number above 0";
  });
  if (Object.keys(wrong).length > 0) throw new ValidationError(wrong);
  const items = input.items.toSorted((a, b) => (a.sku < b.sku ? -1 : 1));
  if (items.some(({ sku }, at) => sku === items[at + 1]?.sku)) throw new ValidationError({ items: "names a product twice" });
  return { ...input, items };
}

const text = (value: unknown): value is string => typeof value === "string" && value !== "";
