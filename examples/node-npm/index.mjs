// Checks an order with zod, a package from npm, and adds it up.
import { z } from "zod";

const Order = z.object({
  customer: z.string().default("nobody"),
  items: z.array(z.object({ name: z.string(), price: z.number().nonnegative() })).default([]),
});

export const handler = async (event) => {
  const order = Order.safeParse(event);
  if (!order.success) {
    return { accepted: false, problems: order.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`) };
  }
  const { customer, items } = order.data;
  return { accepted: true, customer, total: items.reduce((sum, item) => sum + item.price, 0) };
};
