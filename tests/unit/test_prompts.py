"""What prompts mean, one line each."""

from __future__ import annotations

import pytest

from aworker.trading.prompts import PromptNotUnderstood, edit_from_prompt, strategy_from_prompt
from aworker.trading.strategy import Risk, Rules, source_text

GOLDEN = "entry: crosses_above(sma(close, 50), sma(close, 200))"
DEATH = "exit: crosses_below(sma(close, 50), sma(close, 200))"
MACD_UP = "entry: crosses_above(macd(close), macd_signal(close))"
MACD_DOWN = "exit: crosses_below(macd(close), macd_signal(close))"
DIP = "entry: rsi(close, 14) < 30"
PEAK = "exit: rsi(close, 14) > 70"


@pytest.mark.parametrize(
    "prompt, source",
    [
        (
            "Create momentum strategy",
            "entry: percent_change(close, 20) > 0 and close > sma(close, 50) | exit: close < sma(close, 50) | "
            "rank: percent_change(close, 20)",
        ),
        (
            "buy when RSI(14) drops below 30, sell above 70, 5% stop loss, only AAPL and MSFT",
            f"{DIP} | {PEAK} | stop_loss: 5% | symbols: AAPL, MSFT",
        ),
        ("BUY WHEN RSI BELOW 30 SELL ABOVE 70 ONLY AAPL AND MSFT", f"{DIP} | {PEAK} | symbols: AAPL, MSFT"),
        ("Buy when RSI below 30\nSell when RSI above 70\nStop loss: 5%\n", f"{DIP} | {PEAK} | stop_loss: 5%"),
        ("Strategy:\n- buy when RSI<30\n- sell when RSI>70", f"{DIP} | {PEAK}"),
        ("When RSI(14) drops below 30, buy; when it rises above 70, sell", f"{DIP} | {PEAK}"),
        ("I want to buy when the RSI is oversold and sell when it is overbought", f"{DIP} | {PEAK}"),
        ("RSI strategy: buy below 25, sell above 75", "entry: rsi(close, 14) < 25 | exit: rsi(close, 14) > 75"),
        ("buy when RSI14 < 30", DIP),
        ("buy when 14-day RSI is under 30", DIP),
        ("buy when the relative strength index is less than 30", DIP),
        ("golden cross", f"{GOLDEN} | {DEATH}"),
        ("Create a golden cross strategy on AAPL", f"{GOLDEN} | {DEATH} | symbols: AAPL"),
        ("Buy on a golden cross, sell on a death cross", f"{GOLDEN} | {DEATH}"),
        ("50/200 SMA crossover with 8% stop loss", f"{GOLDEN} | {DEATH} | stop_loss: 8%"),
        (
            "buy when the 50 day crosses above the 200 day moving average, sell when it crosses below",
            f"{GOLDEN} | {DEATH}",
        ),
        ("buy when SMA 50 crosses above SMA 200", GOLDEN),
        ("buy when sma50 crosses over sma200", GOLDEN),
        ("buy when the 50 MA crosses above the 200 MA", GOLDEN),
        ("buy when 50dma crosses above 200dma", GOLDEN),
        (
            "buy when ema(21) is above ema(50) and rsi < 60",
            "entry: ema(close, 21) > ema(close, 50) and rsi(close, 14) < 60",
        ),
        ("buy when MACD crosses above its signal line and sell when it crosses below", f"{MACD_UP} | {MACD_DOWN}"),
        ("MACD strategy", f"{MACD_UP} | {MACD_DOWN}"),
        ("buy when MACD(8, 17, 9) crosses above zero", "entry: crosses_above(macd(close, 8, 17, 9), 0)"),
        ("buy when the MACD histogram turns positive", "entry: macd_histogram(close) > 0"),
        (
            "Buy when the price breaks above its 20 day high. Sell when it falls below the 10-day low.",
            "entry: close > lag(highest(high, 20), 1) | exit: close < lag(lowest(low, 10), 1)",
        ),
        (
            "buy at a new 52 week high with a 10% trailing stop",
            "entry: close > lag(highest(high, 252), 1) | trailing_stop: 10%",
        ),
        (
            "20 day breakout strategy",
            "entry: close > lag(highest(high, 20), 1) | exit: close < lag(lowest(low, 10), 1) | "
            "rank: percent_change(close, 20)",
        ),
        ("buy when price breaks above the 50 day moving average", "entry: crosses_above(close, sma(close, 50))"),
        (
            "bollinger band mean reversion strategy",
            "entry: close < bollinger_lower(close, 20, 2) | exit: close > bollinger_middle(close, 20, 2)",
        ),
        (
            "buy when price touches the lower bollinger band, sell when price touches the upper band",
            "entry: low <= bollinger_lower(close, 20, 2) | exit: high >= bollinger_upper(close, 20, 2)",
        ),
        (
            "buy when close is below the lower Bollinger band (10, 1.5)",
            "entry: close < bollinger_lower(close, 10, 1.5)",
        ),
        (
            "mean reversion strategy",
            "entry: close < bollinger_lower(close, 20, 2) and rsi(close, 14) < 30 | exit: close > sma(close, 20)",
        ),
        ("buy when volume above twice its 20 day average", "entry: volume > 2 * sma(volume, 20)"),
        ("buy when volume is over 1.5x average volume", "entry: volume > 1.5 * sma(volume, 20)"),
        ("buy when volume exceeds 1,500,000 shares", "entry: volume > 1500000"),
        ("buy when volume > 2m", "entry: volume > 2000000"),
        ("buy when price is up 5% over 10 days", "entry: percent_change(close, 10) >= 5"),
        ("buy when it has fallen more than 7.5% in a week", "entry: percent_change(close, 5) < -7.5"),
        ("buy when price drops 10% from its 52 week high", "entry: close <= highest(high, 252) * 0.9"),
        ("buy when price is more than 5% above its 50 day moving average", "entry: close > sma(close, 50) * 1.05"),
        ("buy when the price is above $50", "entry: close > 50"),
        ("buy when RSI between 40 and 60", "entry: between(rsi(close, 14), 40, 60)"),
        ("buy when RSI above 50 and below 70", "entry: rsi(close, 14) > 50 and rsi(close, 14) < 70"),
        (
            "buy when not RSI above 50 and (close > 20 SMA or volume > 1m)",
            "entry: not (rsi(close, 14) > 50) and (close > sma(close, 20) or volume > 1000000)",
        ),
        ("buy when price is not below the 200 day SMA", "entry: not (close < sma(close, 200))"),
        ("buy when RSI is rising and MACD is positive", "entry: rising(rsi(close, 14), 1) and macd(close) > 0"),
        ("buy when close is above yesterday's high", "entry: close > lag(high, 1)"),
        ("buy when crosses_above(close, sma(close, 20))", "entry: crosses_above(close, sma(close, 20))"),
        ("buy when close > sma(close, 20) * 1.02 + atr(14)", "entry: close > ((sma(close, 20) * 1.02) + atr(14))"),
        (
            "buy when RSI below 30, take profit 10%, trailing stop 5%, hold at most 20 days",
            f"{DIP} | take_profit: 10% | trailing_stop: 5% | max_bars: 20",
        ),
        ("buy when RSI below 30, sell above 70 or after 10 days", f"{DIP} | {PEAK} | max_bars: 10"),
        ("buy when RSI below 30, exit at a 5% loss or at a 10% profit", f"{DIP} | stop_loss: 5% | take_profit: 10%"),
        ("buy when RSI < 30 and 5% stop", f"{DIP} | stop_loss: 5%"),
        ("Find stocks with RSI below 30. Rank by 20 day momentum", f"{DIP} | rank: percent_change(close, 20)"),
        ("buy when RSI below 30; rank by lowest RSI", f"{DIP} | rank: -rsi(close, 14)"),
        ("alert me when RSI drops below 30 on BRK.B or $spy", f"{DIP} | symbols: BRK.B, SPY"),
        ("buy AAPL when RSI is below 30 and only trade AAPL", f"{DIP} | symbols: AAPL"),
        (
            "on 15 minute bars, buy when price crosses above the 20 period EMA, sell when it crosses below",
            "entry: crosses_above(close, ema(close, 20)) | exit: crosses_below(close, ema(close, 20)) | timeframe: 15m",
        ),
        (
            "buy when the 60 minute return is above 1%, on 15m bars",
            "entry: percent_change(close, 4) > 1 | timeframe: 15m",
        ),
        ("buy when RSI is 30 or below, hold for 5 days then sell", "entry: rsi(close, 14) <= 30 | max_bars: 5"),
        ("buy when RSI(14)<30 && volume>1000000", f"{DIP} and volume > 1000000"),
        ("buy when RSI below 30, sell above 70 or stop loss 5%", f"{DIP} | {PEAK} | stop_loss: 5%"),
        (
            "buy when price > EMA20 and EMA20 > EMA50",
            "entry: close > ema(close, 20) and ema(close, 20) > ema(close, 50)",
        ),
        ("buy and hold AAPL", "entry: close > 0 | symbols: AAPL"),
        (
            "entry: rsi(close, 14) < 30 exit: rsi(close, 14) > 70 stop_loss: 5% symbols: AAPL, MSFT",
            f"{DIP} | {PEAK} | stop_loss: 5% | symbols: AAPL, MSFT",
        ),
        ("Symbols: AAPL and MSFT\nEntry: RSI below 30\nExit: RSI above 70", f"{DIP} | {PEAK} | symbols: AAPL, MSFT"),
        ("golden cross strategy called Slow 5% stop loss", f"{GOLDEN} | {DEATH} | stop_loss: 5%"),
        ("Entry: rsi(close, 14) < 30\nStop_loss: 0.05\nmax_bars: 9", f"{DIP} | stop_loss: 5% | max_bars: 9"),
    ],
)
def test_a_prompt_means(prompt: str, source: str) -> None:
    draft = strategy_from_prompt(prompt)

    assert source_text(draft.rules).split("\n") == source.split(" | ")
    assert draft.name
    assert draft.description


@pytest.mark.parametrize(
    "prompt, unknown, understood",
    [
        ("buy when RSI is below 30 and the moon is full", "the moon is full", "in part: rsi(close, 14) < 30"),
        ("buy when RSI below 30, sell on full moon", "sell on full moon", DIP),
        ("buy when RSI below 30 and", "and", DIP),
        ("buy when RSI is below 30 for 3 days", "for 3 days", DIP),
        ("buy when RSI below 30, invest 10% of capital", "invest 10% of capital", "rsi(close, 14) < 30"),
        ("momentum strategy but no stop loss", "but no stop loss", "close > sma(close, 50)"),
        ("buy when price crosses above 20m MA", "20m MA", "no whole number of 1d bars"),
        ("buy when price is above its moving average", "moving average", "needs its length"),
        ("buy when price is up 5%", "up 5%", "needs its time"),
        ("sell short when RSI above 70", "sell short", "no short selling"),
        ("buy below 30", "buy below 30", "there is nothing that it could mean"),
        ("buy when RSI below 30 and ADX above 20, sell above 70", "sell above 70", "rsi(close, 14), adx(14)"),
        ("buy when RSI below 30, on 7 minute bars", "7 minute bars", "timeframe must be one of"),
        ("buy when RSI < 30, MACD > 0 or ADX > 20", "ADX > 20", "reads two ways"),
        ("buy when RSI below 30, 5% stop loss, stop loss 6%", "stop loss 6%", "stop_loss is given twice"),
        ("buy when RSI below 30, 150% stop loss", "150% stop loss", "rules.risk.stop_loss must be a fraction"),
        ("buy when RSI below 30 and not", "not", "in part: rsi(close, 14) < 30"),
        ("buy when RSI below 30 unless price is below 200 SMA", "unless price is below 200 SMA", DIP),
        ("never buy when RSI above 70", "never buy when RSI above 70", "nothing"),
        ("buy when RSI crosses 30", "30", "nothing"),
        ("buy when price is above the 50 day and 200 day averages", "day and 200 day averages", "close > 50"),
        ("sell half when RSI above 70", "sell half", "nothing"),
        ("buy when RSI drops below 30 and then rises above 30", "then rises above 30", "in part: rsi(close, 14) < 30"),
        ("rank by market cap, buy when RSI below 30", "rank by market cap", "nothing"),
        ("5% stop loss, only AAPL", "5% stop loss, only AAPL", "does not say when to buy"),
        ("hello", "hello", "nothing"),
        ("entry: close > open symbols: AAPL, M@X", "M@X", "commas between"),
        ("golden cross strategy called One, called Two", "called Two", "the name is given twice"),
        ("entry: rsi(clos) < 30", "entry: rsi(clos) < 30", "did you mean close?"),
        ("entry: close > open exit: close < open exit: close > 1", "exit: close > 1", "given once"),
    ],
)
def test_what_is_not_understood_is_refused_in_words(prompt: str, unknown: str, understood: str) -> None:
    with pytest.raises(PromptNotUnderstood) as caught:
        strategy_from_prompt(prompt)

    assert unknown in caught.value.unknown
    assert understood in str(caught.value)


@pytest.mark.parametrize("prompt", ["", "  \n ", "buy " * 3_000])
def test_blank_and_endless_prompts_are_refused(prompt: str) -> None:
    with pytest.raises(PromptNotUnderstood, match="prompt must"):
        strategy_from_prompt(prompt)


def test_a_prompt_may_name_its_strategy() -> None:
    draft = strategy_from_prompt("Create a strategy called Dip Hunter that buys when RSI(2) is below 10")

    assert draft.name == "Dip Hunter"
    assert draft.description == "Buys when rsi(close, 2) < 10. Trades every symbol on 1d bars."


DIPS = Rules(
    "rsi(close, 14) < 30",
    exit="rsi(close, 14) > 70",
    symbols=("AAPL", "MSFT"),
    risk=Risk(stop_loss=0.05, take_profit=0.1),
)
CROSS = Rules(
    "crosses_above(sma(close, 50), sma(close, 200)) and rsi(close) < 70",
    exit="crosses_below(sma(close, 50), sma(close, 200))",
)


@pytest.mark.parametrize(
    "current, prompt, changes",
    [
        (DIPS, "set the RSI period to 21", "entry: rsi(close, 21) < 30 | exit: rsi(close, 21) > 70"),
        (DIPS, "use a 21 day RSI", "entry: rsi(close, 21) < 30 | exit: rsi(close, 21) > 70"),
        (DIPS, "change the RSI from 14 to 21", "entry: rsi(close, 21) < 30 | exit: rsi(close, 21) > 70"),
        (CROSS, "RSI period 21", "entry: crosses_above(sma(close, 50), sma(close, 200)) and rsi(close, 21) < 70"),
        (DIPS, "change stop loss to 3%", "stop_loss: 3%"),
        (DIPS, "set the stop loss to 3% and the take profit to 20%", "stop_loss: 3% | take_profit: 20%"),
        (DIPS, "change the stop loss from 5% to 3%", "stop_loss: 3%"),
        (DIPS, "change the exit to RSI above 80", "exit: rsi(close, 14) > 80"),
        (DIPS, "set the entry condition to below 25", "entry: rsi(close, 14) < 25"),
        (DIPS, "add a 7% trailing stop", "trailing_stop: 7%"),
        (DIPS, "remove the take profit", "-take_profit: 10%"),
        (DIPS, "remove the stop loss and the take profit", "-stop_loss: 5% | -take_profit: 10%"),
        (DIPS, "remove the take profit, stop loss 3%", "-take_profit: 10% | stop_loss: 3%"),
        (DIPS, "remove the exit", "-exit: rsi(close, 14) > 70"),
        (DIPS, "add GOOG and IBM", "symbols: AAPL, MSFT, GOOG, IBM"),
        (DIPS, "remove MSFT", "symbols: AAPL"),
        (DIPS, "only trade AAPL", "symbols: AAPL"),
        (DIPS, "only AAPL, then add GOOG", "symbols: AAPL, GOOG"),
        (DIPS, "trade all symbols", "-symbols: AAPL, MSFT"),
        (DIPS, "buy below 25 instead", "entry: rsi(close, 14) < 25"),
        (DIPS, "sell above 80 instead", "exit: rsi(close, 14) > 80"),
        (CROSS, "buy below 60", "entry: crosses_above(sma(close, 50), sma(close, 200)) and rsi(close) < 60"),
        (DIPS, "change the oversold level to 25", "entry: rsi(close, 14) < 25"),
        (DIPS, "change 30 to 25", "entry: rsi(close, 14) < 25"),
        (DIPS, "also require volume above 1 million", "entry: rsi(close, 14) < 30 and volume > 1000000"),
        (
            DIPS,
            "only buy when price is above the 200 day SMA",
            "entry: rsi(close, 14) < 30 and close > sma(close, 200)",
        ),
        (
            DIPS,
            "also sell when price is below the 200 day moving average",
            "exit: rsi(close, 14) > 70 or close < sma(close, 200)",
        ),
        (
            CROSS,
            "use EMA instead of SMA",
            "entry: crosses_above(ema(close, 50), ema(close, 200)) and rsi(close) < 70 | "
            "exit: crosses_below(ema(close, 50), ema(close, 200))",
        ),
        (
            CROSS,
            "change the 50 day moving average to 20",
            "entry: crosses_above(sma(close, 20), sma(close, 200)) and rsi(close) < 70 | "
            "exit: crosses_below(sma(close, 20), sma(close, 200))",
        ),
        (CROSS, "remove the RSI condition", "entry: crosses_above(sma(close, 50), sma(close, 200))"),
        (DIPS, "rank by 20 day momentum", "rank: percent_change(close, 20)"),
        (DIPS, "hold at most 10 days", "max_bars: 10"),
        (DIPS, "change the timeframe to 1h", "timeframe: 1h"),
        (DIPS, "stop_loss: 3%", "stop_loss: 3%"),
        (DIPS, "exit: RSI above 80", "exit: rsi(close, 14) > 80"),
        (DIPS, "rename to Slow and remove the take profit", "-take_profit: 10%"),
        (
            DIPS,
            "buy when MACD crosses above its signal, sell when it crosses below",
            f"{MACD_UP} | {MACD_DOWN}",
        ),
        (
            DIPS,
            "create a golden cross strategy",
            f"{GOLDEN} | {DEATH} | -stop_loss: 5% | -take_profit: 10% | -symbols: AAPL, MSFT",
        ),
        (
            DIPS,
            "entry: close > open",
            "entry: close > open | -exit: rsi(close, 14) > 70 | -stop_loss: 5% | -take_profit: 10% | "
            "-symbols: AAPL, MSFT",
        ),
    ],
)
def test_an_edit_changes_what_it_names_and_nothing_else(current: Rules, prompt: str, changes: str) -> None:
    draft = edit_from_prompt(prompt, current, "Mine")

    before, after = source_text(current).splitlines(), source_text(draft.rules).splitlines()
    gone = {line.split(":")[0] for line in before} - {line.split(":")[0] for line in after}
    changed = [line for line in after if line not in before]
    assert sorted(changed + [f"-{line}" for line in before if line.split(":")[0] in gone]) == sorted(
        changes.split(" | ")
    )


@pytest.mark.parametrize(
    "prompt, name", [("rename to Deep Dips", "Deep Dips"), ('call it "Dips, no stop"', "Dips, no stop")]
)
def test_an_edit_renames(prompt: str, name: str) -> None:
    draft = edit_from_prompt(prompt, DIPS, "Mine")

    assert (draft.name, draft.rules) == (name, DIPS)


@pytest.mark.parametrize(
    "current, prompt, reason",
    [
        (DIPS, "make it better", "make it better"),
        (DIPS, "change the RSI threshold to 25", "rsi(close, 14) < 30, rsi(close, 14) > 70"),
        (CROSS, "set the SMA period to 30", "which one: 50, 200?"),
        (DIPS, "set the SMA period to 30", "the strategy has no sma"),
        (DIPS, "remove the RSI condition", "the only condition to buy"),
        (DIPS, "remove the trailing stop", "the strategy has no trailing_stop"),
        (DIPS, "remove GOOG", "the strategy's symbols are AAPL, MSFT"),
        (DIPS, "remove AAPL and MSFT", "the strategy's symbols are AAPL, MSFT"),
        (CROSS, "add GOOG", "trades every symbol already"),
        (DIPS, "lower the stop loss by 1%", "by 1%"),
        (DIPS, "change the stop loss from 6% to 3%", "stop_loss does not stand at that"),
        (DIPS, "change the timeframe to 7m", "timeframe must be one of"),
        (DIPS, "set the MACD period to 9", "say fast, slow or signal"),
        (DIPS, "create a momentum strategy and remove the take profit", "a new strategy and for changes"),
        (DIPS, "set the RSI period to 5000", "rules.entry must be a condition"),
    ],
)
def test_an_edit_that_could_mean_two_things_or_none_is_refused(current: Rules, prompt: str, reason: str) -> None:
    with pytest.raises(PromptNotUnderstood) as caught:
        edit_from_prompt(prompt, current, "Mine")

    assert reason in str(caught.value)
