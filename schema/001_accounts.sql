CREATE TABLE accounts (
    name  text PRIMARY KEY,
    cents bigint NOT NULL CHECK (cents >= 0)
);

CREATE TABLE transfers (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender   text NOT NULL REFERENCES accounts,
    receiver text NOT NULL REFERENCES accounts,
    cents    bigint NOT NULL CHECK (cents > 0),
    at       timestamptz NOT NULL DEFAULT now()
);

INSERT INTO accounts VALUES ('ada', 10000), ('grace', 5000);
