"""The later migrations of the store, after those of ``migrations``; add further ones at the end."""

LATER_MIGRATIONS = (
    """
    ALTER TABLE trades ADD COLUMN closed_pnl DECIMAL(38, 8);
    ALTER TABLE trades ADD COLUMN closed_quantity DECIMAL(38, 8);
    ALTER TABLE trades ADD COLUMN is_liquidation BOOLEAN DEFAULT false;
    COMMENT ON COLUMN trades.closed_pnl IS 'PnL of what it closed of a perpetual position, without fees';
    COMMENT ON COLUMN trades.closed_quantity IS 'the part of it that closed a perpetual position';

    ALTER TABLE equity ADD COLUMN funding DECIMAL(38, 8);
    COMMENT ON COLUMN equity.funding IS 'received less paid since the start; NULL: a session on spot';

    CREATE TABLE margin_results (
        session_id VARCHAR PRIMARY KEY,
        total_funding DECIMAL(38, 8) NOT NULL,
        total_liquidation_fees DECIMAL(38, 8) NOT NULL,
        liquidations BIGINT NOT NULL,
        insurance DECIMAL(38, 8) NOT NULL,
        max_leverage_used DECIMAL(38, 8) NOT NULL,
        mark_source VARCHAR NOT NULL,
        mark_holes BIGINT NOT NULL,
        funding_expected BIGINT NOT NULL,
        funding_applied BIGINT NOT NULL,
        margin_tiers JSON NOT NULL
    );
    COMMENT ON TABLE margin_results IS 'figures that only sessions on perpetuals have';
    COMMENT ON COLUMN margin_results.margin_tiers IS 'by symbol, the tiers in force and their source';

    CREATE TABLE funding_payments (
        session_id VARCHAR NOT NULL,
        payment_id BIGINT NOT NULL,
        symbol VARCHAR NOT NULL,
        rate DOUBLE NOT NULL,
        mark_price DOUBLE NOT NULL,
        mark_source VARCHAR NOT NULL,
        quantity DECIMAL(38, 8) NOT NULL,
        notional DECIMAL(38, 8) NOT NULL,
        amount DECIMAL(38, 8) NOT NULL,
        simulated_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE funding_payments IS 'funding of the positions of sessions that have ended';
    COMMENT ON COLUMN funding_payments.rate IS 'as it was imported, as is the mark price';
    COMMENT ON COLUMN funding_payments.amount IS 'received by the account; negative: it paid';

    CREATE TABLE liquidations (
        session_id VARCHAR NOT NULL,
        order_id BIGINT NOT NULL,
        symbol VARCHAR NOT NULL,
        side VARCHAR NOT NULL,
        quantity DECIMAL(38, 8) NOT NULL,
        mark_price DECIMAL(38, 16) NOT NULL,
        price DECIMAL(38, 16) NOT NULL,
        closed_pnl DECIMAL(38, 8) NOT NULL,
        loss DECIMAL(38, 8) NOT NULL,
        fee DECIMAL(38, 8) NOT NULL,
        insurance DECIMAL(38, 8) NOT NULL,
        margin_mode VARCHAR NOT NULL,
        simulated_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE liquidations IS 'positions that sessions closed for want of margin';
    COMMENT ON COLUMN liquidations.side IS 'of the order that closed it: sell for a long';
    """,
    """
    CREATE TABLE dialect_keys (
        session_id VARCHAR NOT NULL,
        account_id VARCHAR NOT NULL,
        dialect VARCHAR NOT NULL,
        key_hash VARCHAR NOT NULL,
        settings JSON NOT NULL,
        created_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE dialect_keys IS 'keys with which clients of an exchange trade in a session';
    COMMENT ON COLUMN dialect_keys.key_hash IS 'with the signing key; the key itself is not kept';
    """,
    """
    ALTER TABLE sessions ADD COLUMN blind JSON;
    ALTER TABLE sessions ADD COLUMN sealed BOOLEAN DEFAULT false;
    COMMENT ON COLUMN sessions.blind IS 'the real market of a session whose other columns are in disguise';
    COMMENT ON COLUMN sessions.sealed IS 'true: nothing of it is taken out or tried again before its end';

    ALTER TABLE keys ADD COLUMN session_id VARCHAR;
    COMMENT ON COLUMN keys.session_id IS 'the one session that it may use; NULL: all of the account';
    """,
)
