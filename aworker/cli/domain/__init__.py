"""Commands of the domain: `strategy`, `bars`, `backtest`, `alerts`. Without aworker.trading they say so."""
