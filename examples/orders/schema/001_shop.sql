-- What must always hold is said here, once: no function can forget it, and neither can psql.

CREATE TABLE products (
    sku         text PRIMARY KEY,
    name        text NOT NULL,
    price_cents bigint NOT NULL CHECK (price_cents > 0)
);

CREATE TABLE stock (
    sku      text PRIMARY KEY REFERENCES products,
    quantity integer NOT NULL CONSTRAINT stock_is_enough CHECK (quantity >= 0)
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference   text NOT NULL CONSTRAINT orders_reference_is_new UNIQUE,
    email       text NOT NULL,
    total_cents bigint CHECK (total_cents > 0),
    charge_id   text UNIQUE,
    placed_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT paid_in_full CHECK ((total_cents IS NULL) = (charge_id IS NULL))
);

CREATE TABLE order_items (
    order_id    bigint NOT NULL REFERENCES orders,
    sku         text NOT NULL REFERENCES products,
    quantity    integer NOT NULL CHECK (quantity > 0),
    price_cents bigint NOT NULL,
    PRIMARY KEY (order_id, sku)
);

CREATE TABLE receipts (
    order_id   bigint PRIMARY KEY REFERENCES orders,
    message_id text NOT NULL,
    sent_at    timestamptz NOT NULL DEFAULT now()
);

INSERT INTO products VALUES
    ('tea-assam', 'Assam, 100 g', 690), ('tea-sencha', 'Sencha, 100 g', 890), ('tea-oolong', 'Oolong, 100 g', 1290),
    ('tea-pu-erh', 'Pu-erh, a cake', 3400), ('tea-earl-grey', 'Earl Grey, 100 g', 590), ('tea-rooibos', 'Rooibos, 100 g', 450),
    ('pot-iron', 'Cast iron pot', 5900), ('pot-glass', 'Glass pot', 2900), ('cup-plain', 'Cup', 900), ('cup-raku', 'Raku cup', 4200),
    ('strainer', 'Strainer', 750), ('whisk', 'Bamboo whisk', 1900);
INSERT INTO stock SELECT sku, 10000 FROM products;
UPDATE stock SET quantity = 3 WHERE sku = 'cup-raku';
