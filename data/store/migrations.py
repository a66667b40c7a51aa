"""The tables of the store, as numbered migrations.

A released script is never edited; to change the tables, add a script at the end, that of
``later_migrations``, where they go on. The version of a store is the number of scripts that have
been run on it.

Amounts of money and quantities are DECIMAL(38, 8): the ledger rounds them to 8 places. Prices are
DECIMAL(38, 16): a fill price has 16 places and at most 17 digits before the point. So every number
of a result is read back as it was written, and the DuckDB shell can calculate with it. Candles are
DOUBLE: what was imported is the double nearest to the text of the file. Times are UTC.
"""

from candlestep.data.store.later_migrations import LATER_MIGRATIONS

MIGRATIONS = (
    """
    CREATE TABLE instruments (
        instrument_id INTEGER PRIMARY KEY,
        exchange VARCHAR NOT NULL,
        symbol VARCHAR NOT NULL,
        base VARCHAR NOT NULL,
        quote VARCHAR NOT NULL,
        UNIQUE (exchange, symbol)
    );
    COMMENT ON TABLE instruments IS 'what is traded where';

    CREATE TABLE imports (
        import_number INTEGER PRIMARY KEY,
        imported_at TIMESTAMP NOT NULL,
        instrument_id INTEGER NOT NULL,
        interval_seconds INTEGER NOT NULL,
        source VARCHAR NOT NULL,
        sha256 VARCHAR,
        synthetic BOOLEAN NOT NULL,
        rows_new INTEGER NOT NULL,
        rows_replaced INTEGER NOT NULL,
        rows_unchanged INTEGER NOT NULL,
        series_rows BIGINT NOT NULL,
        series_start TIMESTAMP,
        series_end TIMESTAMP,
        pruned BOOLEAN NOT NULL
    );
    COMMENT ON TABLE imports IS 'every change of the candles, numbered: one series each';
    COMMENT ON COLUMN imports.source IS 'file name, or what else the candles came from';
    COMMENT ON COLUMN imports.series_rows IS 'candles of the whole series as of this import';
    COMMENT ON COLUMN imports.series_start IS 'first open time of the series as of this import';
    COMMENT ON COLUMN imports.series_end IS 'last completion of the series as of this import';
    COMMENT ON COLUMN imports.pruned IS 'the series as of this import is no longer whole';

    CREATE TABLE candles (
        instrument_id INTEGER NOT NULL,
        interval_seconds INTEGER NOT NULL,
        open_time TIMESTAMP NOT NULL,
        open DOUBLE NOT NULL,
        high DOUBLE NOT NULL,
        low DOUBLE NOT NULL,
        close DOUBLE NOT NULL,
        volume DOUBLE NOT NULL,
        import_number INTEGER NOT NULL,
        superseded_by INTEGER
    );
    COMMENT ON TABLE candles IS 'every candle ever imported; see the view current_candles';
    COMMENT ON COLUMN candles.superseded_by IS 'the import that replaced it; NULL: still current';

    CREATE VIEW current_candles AS
        SELECT i.exchange, i.symbol, c.interval_seconds, c.open_time,
               c.open, c.high, c.low, c.close, c.volume, c.import_number
        FROM candles c JOIN instruments i USING (instrument_id)
        WHERE c.superseded_by IS NULL;

    CREATE TABLE gaps (
        instrument_id INTEGER NOT NULL,
        interval_seconds INTEGER NOT NULL,
        import_number INTEGER NOT NULL,
        gap_start TIMESTAMP NOT NULL,
        gap_end TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE gaps IS 'holes of each series as of each of its imports';
    COMMENT ON COLUMN gaps.gap_start IS 'completion of the last candle before the hole';
    COMMENT ON COLUMN gaps.gap_end IS 'open time of the first candle after the hole';

    CREATE TABLE accounts (
        account_id VARCHAR PRIMARY KEY,
        name VARCHAR NOT NULL UNIQUE,
        created_at TIMESTAMP NOT NULL
    );

    CREATE TABLE agents (
        agent_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        risk_profile JSON NOT NULL,
        is_default BOOLEAN NOT NULL,
        created_at TIMESTAMP NOT NULL
    );

    CREATE TABLE keys (
        key_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        agent_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        hash VARCHAR NOT NULL,
        created_at TIMESTAMP NOT NULL,
        revoked_at TIMESTAMP
    );
    COMMENT ON COLUMN keys.hash IS 'SHA-256 of the key; the key itself is stored nowhere';

    CREATE TABLE sessions (
        session_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        agent_id VARCHAR NOT NULL,
        exchange VARCHAR NOT NULL,
        strategy_label VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        pairs JSON NOT NULL,
        start_time TIMESTAMP NOT NULL,
        end_time TIMESTAMP NOT NULL,
        interval_seconds INTEGER NOT NULL,
        starting_balance DECIMAL(38, 8) NOT NULL,
        config JSON NOT NULL,
        risk_profile JSON NOT NULL,
        import_number INTEGER,
        total_steps BIGINT NOT NULL,
        current_step BIGINT NOT NULL,
        final_equity DECIMAL(38, 8),
        total_pnl DECIMAL(38, 8),
        roi_pct DECIMAL(38, 8),
        total_trades BIGINT,
        total_fees DECIMAL(38, 8),
        sharpe_ratio DOUBLE,
        max_drawdown_pct DOUBLE,
        created_at TIMESTAMP NOT NULL,
        started_at TIMESTAMP,
        completed_at TIMESTAMP,
        error VARCHAR
    );
    COMMENT ON COLUMN sessions.import_number IS 'the market it runs on is as of this import';

    CREATE TABLE trades (
        session_id VARCHAR NOT NULL,
        trade_id BIGINT NOT NULL,
        order_id BIGINT NOT NULL,
        symbol VARCHAR NOT NULL,
        side VARCHAR NOT NULL,
        type VARCHAR NOT NULL,
        quantity DECIMAL(38, 8) NOT NULL,
        price DECIMAL(38, 16) NOT NULL,
        quote_amount DECIMAL(38, 8) NOT NULL,
        fee DECIMAL(38, 8) NOT NULL,
        slippage DECIMAL(38, 16) NOT NULL,
        realized_pnl DECIMAL(38, 8),
        simulated_at TIMESTAMP NOT NULL
    );
    COMMENT ON COLUMN trades.slippage IS 'as a fraction of the price';
    COMMENT ON COLUMN trades.realized_pnl IS 'NULL: a trade that realizes nothing';

    CREATE TABLE orders (
        session_id VARCHAR NOT NULL,
        order_id BIGINT NOT NULL,
        symbol VARCHAR NOT NULL,
        side VARCHAR NOT NULL,
        type VARCHAR NOT NULL,
        quantity DECIMAL(38, 8) NOT NULL,
        price DECIMAL(38, 16),
        trigger_price DECIMAL(38, 16),
        client_order_id VARCHAR,
        oco_group VARCHAR,
        created_at TIMESTAMP NOT NULL,
        expires_at TIMESTAMP,
        status VARCHAR NOT NULL,
        reason VARCHAR,
        filled_at TIMESTAMP,
        closed_at TIMESTAMP
    );
    COMMENT ON TABLE orders IS 'every order of a session that has ended; times are simulated';

    CREATE TABLE equity (
        session_id VARCHAR NOT NULL,
        simulated_at TIMESTAMP NOT NULL,
        total_equity DECIMAL(38, 8) NOT NULL,
        available_cash DECIMAL(38, 8) NOT NULL,
        locked_cash DECIMAL(38, 8) NOT NULL,
        position_value DECIMAL(38, 8) NOT NULL,
        unrealized_pnl DECIMAL(38, 8) NOT NULL,
        realized_pnl DECIMAL(38, 8) NOT NULL
    );

    CREATE TABLE metrics (
        session_id VARCHAR PRIMARY KEY,
        total_return DOUBLE,
        cagr DOUBLE,
        sharpe_ratio DOUBLE,
        sortino_ratio DOUBLE,
        calmar_ratio DOUBLE,
        volatility DOUBLE,
        max_drawdown_pct DOUBLE,
        max_drawdown_duration_days BIGINT,
        var_95 DOUBLE,
        var_99 DOUBLE,
        cvar_95 DOUBLE,
        cvar_99 DOUBLE,
        total_trades BIGINT,
        trades_per_day DOUBLE,
        win_rate DOUBLE,
        profit_factor DOUBLE,
        avg_win DECIMAL(38, 8),
        avg_loss DECIMAL(38, 8),
        best_trade DECIMAL(38, 8),
        worst_trade DECIMAL(38, 8),
        expectancy DECIMAL(38, 8),
        turnover DOUBLE,
        candles_in_market BIGINT,
        returns_grid VARCHAR
    );
    COMMENT ON TABLE metrics IS 'figures of a session; NULL where one is undefined';

    CREATE TABLE by_pair (
        session_id VARCHAR NOT NULL,
        symbol VARCHAR NOT NULL,
        trades BIGINT NOT NULL,
        win_rate DOUBLE,
        net_pnl DECIMAL(38, 8) NOT NULL
    );
    """,
    """
    DROP TABLE orders;
    ALTER TABLE sessions ADD COLUMN forked_from VARCHAR;
    ALTER TABLE sessions ADD COLUMN create_key VARCHAR;
    ALTER TABLE sessions ADD COLUMN create_body VARCHAR;
    COMMENT ON COLUMN sessions.forked_from IS 'the session whose past it shares';
    COMMENT ON COLUMN sessions.create_key IS 'the Idempotency-Key that it was created with';
    COMMENT ON COLUMN sessions.create_body IS 'a digest of what was asked for with that key';
    """,
    """
    CREATE TABLE jobs (
        job_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        number BIGINT NOT NULL,
        origin VARCHAR NOT NULL,
        status VARCHAR NOT NULL,
        progress DOUBLE NOT NULL,
        attempts INTEGER NOT NULL,
        request JSON NOT NULL,
        submitted_at TIMESTAMP NOT NULL,
        started_at TIMESTAMP,
        finished_at TIMESTAMP,
        error_code VARCHAR,
        error_message VARCHAR,
        payload_deleted_at TIMESTAMP
    );
    COMMENT ON TABLE jobs IS 'what is queued, runs or ran in a worker: one run, or those of a sweep';
    COMMENT ON COLUMN jobs.number IS 'the order in which an account submitted its jobs';
    COMMENT ON COLUMN jobs.origin IS 'the API that it came by';
    COMMENT ON COLUMN jobs.request IS 'what was asked for, as that API resolved it';
    COMMENT ON COLUMN jobs.payload_deleted_at IS 'when its files were deleted; NULL: they were not';

    CREATE TABLE job_runs (
        job_id VARCHAR NOT NULL,
        run_number INTEGER NOT NULL,
        import_number INTEGER NOT NULL,
        spec JSON NOT NULL,
        outcome JSON
    );
    COMMENT ON TABLE job_runs IS 'the runs of each job, from 0, and what came of them';
    COMMENT ON COLUMN job_runs.import_number IS 'the market it runs on is as of this import';

    CREATE TABLE strategies (
        strategy_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        description VARCHAR NOT NULL,
        universe JSON NOT NULL,
        timeframe VARCHAR NOT NULL,
        content JSON NOT NULL,
        status VARCHAR NOT NULL,
        version INTEGER NOT NULL,
        created_at TIMESTAMP NOT NULL,
        updated_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE strategies IS 'strategies that accounts keep under a name';
    COMMENT ON COLUMN strategies.universe IS 'the symbols that it is meant for';
    COMMENT ON COLUMN strategies.content IS 'a card, a template with parameters, or a program';
    """,
    """
    CREATE TABLE backtests (
        backtest_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        number BIGINT NOT NULL,
        strategy_id VARCHAR NOT NULL,
        engine VARCHAR NOT NULL,
        initial_capital DECIMAL(38, 8) NOT NULL,
        commission DECIMAL(38, 16) NOT NULL,
        slippage DECIMAL(38, 16) NOT NULL,
        config JSON NOT NULL,
        job_id VARCHAR,
        run_number INTEGER,
        set_status VARCHAR,
        set_metrics JSON,
        hides_trades BOOLEAN NOT NULL,
        hides_equity BOOLEAN NOT NULL,
        created_at TIMESTAMP NOT NULL,
        updated_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE backtests IS 'what a stored strategy is to be run with, and the run of it';
    COMMENT ON COLUMN backtests.number IS 'the order in which an account created them';
    COMMENT ON COLUMN backtests.commission IS 'as a fraction of the notional';
    COMMENT ON COLUMN backtests.slippage IS 'as a fraction of the price';
    COMMENT ON COLUMN backtests.job_id IS 'the job of its last execution; NULL: it has had none';
    COMMENT ON COLUMN backtests.run_number IS 'its run among those of the job';
    COMMENT ON COLUMN backtests.set_status IS 'set by hand; NULL: the status is what its run says';
    COMMENT ON COLUMN backtests.set_metrics IS 'set by hand; NULL: they are those of its run';
    COMMENT ON COLUMN backtests.hides_trades IS 'its file of trades was taken out by hand';
    COMMENT ON COLUMN backtests.hides_equity IS 'its file of equity was taken out by hand';
    """,
    """
    CREATE TABLE signing_keys (
        secret VARCHAR NOT NULL,
        created_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE signing_keys IS 'what tokens are signed with; exports have none';
    """,
    """
    ALTER TABLE metrics ADD COLUMN max_drawdown_amount DECIMAL(38, 8);
    ALTER TABLE metrics ADD COLUMN returns_count BIGINT;
    ALTER TABLE metrics ADD COLUMN returns_skewness DOUBLE;
    ALTER TABLE metrics ADD COLUMN returns_kurtosis DOUBLE;

    CREATE TABLE programs (
        strategy_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        source VARCHAR NOT NULL,
        error VARCHAR,
        created_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE programs IS 'programs known by what they say; never changed';
    COMMENT ON COLUMN programs.error IS 'why it does not compile; NULL: it does';

    CREATE TABLE preparations (
        job_id VARCHAR PRIMARY KEY,
        account_id VARCHAR NOT NULL,
        source_type VARCHAR NOT NULL,
        exchange VARCHAR NOT NULL,
        symbol VARCHAR NOT NULL,
        base VARCHAR NOT NULL,
        quote VARCHAR NOT NULL,
        start_time TIMESTAMP NOT NULL,
        end_time TIMESTAMP NOT NULL,
        interval_seconds INTEGER NOT NULL,
        import_number INTEGER NOT NULL,
        started_at TIMESTAMP NOT NULL,
        finished_at TIMESTAMP NOT NULL
    );
    COMMENT ON TABLE preparations IS 'markets and times that programs are executed on';
    COMMENT ON COLUMN preparations.import_number IS 'the market is as of this import';
    """,
    """
    ALTER TABLE sessions ADD COLUMN command_count BIGINT;
    COMMENT ON COLUMN sessions.command_count IS 'commands in its journal, which holds no fewer; NULL: not noted yet';
    """,
    """
    CREATE TABLE day_digests (
        instrument_id INTEGER NOT NULL,
        interval_seconds INTEGER NOT NULL,
        day INTEGER NOT NULL,
        import_number INTEGER NOT NULL,
        digest BLOB NOT NULL
    );
    COMMENT ON TABLE day_digests IS 'SHA-256 of the candles of each day that an import changed';
    COMMENT ON COLUMN day_digests.day IS 'days since 1970, UTC';
    """,
    """
    ALTER TABLE instruments ADD COLUMN kind VARCHAR DEFAULT 'spot';
    ALTER TABLE instruments ADD COLUMN volume_usable BOOLEAN DEFAULT true;
    ALTER TABLE instruments ADD COLUMN tick_size DECIMAL(38, 16);
    ALTER TABLE instruments ADD COLUMN step_size DECIMAL(38, 8);
    ALTER TABLE instruments ADD COLUMN min_quantity DECIMAL(38, 8);
    ALTER TABLE instruments ADD COLUMN min_notional DECIMAL(38, 8);
    COMMENT ON COLUMN instruments.volume_usable IS 'false: the volume of its candles has another unit';
    COMMENT ON COLUMN instruments.tick_size IS 'prices of orders are multiples of it; NULL: any';
    COMMENT ON COLUMN instruments.step_size IS 'quantities are multiples of it; NULL: any';
    COMMENT ON COLUMN instruments.min_quantity IS 'least quantity of an order; NULL: any';
    COMMENT ON COLUMN instruments.min_notional IS 'least quantity times price; NULL: any';

    ALTER TABLE keys ADD COLUMN is_admin BOOLEAN DEFAULT false;
    COMMENT ON COLUMN keys.is_admin IS 'it may change the data that all accounts share';
    """,
    """
    ALTER TABLE sessions ADD COLUMN look_back BIGINT;
    COMMENT ON COLUMN sessions.look_back IS 'ms of candles before its start, at least; NULL: as usual';
    """,
    """
    ALTER TABLE metrics ADD COLUMN capped_fills BIGINT;
    ALTER TABLE metrics ADD COLUMN covered_from TIMESTAMP;
    ALTER TABLE metrics ADD COLUMN covered_to TIMESTAMP;
    COMMENT ON COLUMN metrics.capped_fills IS 'fills at the largest slippage of the volume model';
    COMMENT ON COLUMN metrics.covered_from IS 'candles cover the session from here';
    COMMENT ON COLUMN metrics.covered_to IS 'candles cover the session up to here';
    """,
    """
    CREATE TABLE server_name (
        name VARCHAR NOT NULL
    );
    COMMENT ON TABLE server_name IS 'one row, if the server of this home has a name among others';
    """,
    """
    COMMENT ON COLUMN instruments.kind IS 'spot or perp; mark, funding, tiers: a line of a perpetual';
    COMMENT ON COLUMN imports.interval_seconds IS 'of candles and mark prices; 0: they have none';

    CREATE TABLE funding (
        instrument_id INTEGER NOT NULL,
        settled_at TIMESTAMP NOT NULL,
        stated_at TIMESTAMP NOT NULL,
        rate DOUBLE NOT NULL,
        interval_ms BIGINT NOT NULL,
        mark DOUBLE,
        import_number INTEGER NOT NULL,
        superseded_by INTEGER
    );
    COMMENT ON TABLE funding IS 'every funding rate ever imported; see the view current_funding';
    COMMENT ON COLUMN funding.settled_at IS 'the minute of the settlement';
    COMMENT ON COLUMN funding.stated_at IS 'its time as the file has it';
    COMMENT ON COLUMN funding.rate IS 'the part of the notional that longs pay to shorts';
    COMMENT ON COLUMN funding.interval_ms IS 'the time until the next settlement';
    COMMENT ON COLUMN funding.mark IS 'the mark price of the settlement; NULL: the file has none';
    COMMENT ON COLUMN funding.superseded_by IS 'the import that replaced it; NULL: still current';

    CREATE VIEW current_funding AS
        SELECT i.exchange, split_part(i.symbol, '.', 1) AS symbol, f.settled_at, f.rate,
               f.interval_ms, f.mark, f.import_number
        FROM funding f JOIN instruments i USING (instrument_id)
        WHERE f.superseded_by IS NULL;

    CREATE TABLE tiers (
        instrument_id INTEGER NOT NULL,
        in_force_from TIMESTAMP NOT NULL,
        tiers JSON NOT NULL,
        import_number INTEGER NOT NULL,
        superseded_by INTEGER
    );
    COMMENT ON TABLE tiers IS 'all margin tiers ever imported, in force from a day';
    COMMENT ON COLUMN tiers.tiers IS 'from a notional on, the margin is notional x mmr - cum';
    COMMENT ON COLUMN tiers.superseded_by IS 'the import that replaced it; NULL: still current';
    """,
    *LATER_MIGRATIONS,
)
