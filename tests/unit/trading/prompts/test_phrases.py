"""What prompts mean, one line each."""

from __future__ import annotations

import msgspec
import pytest

from aworker.trading.prompts import PromptNotUnderstood, edit_from_prompt, strategy_from_prompt
from aworker.trading.strategies.strategy import Risk, Rules, source_text
from tests.kit.signals import assert_means

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
        ("buy when the MACD histogram turns positive", "entry: crosses_above(macd_histogram(close), 0)"),
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
        (
            "buy when price breaks 5% above its 20 day moving average",
            "entry: crosses_above(close, sma(close, 20) * 1.05)",
        ),
        (
            "buy when price crosses above 5% above its 20 day moving average",
            "entry: crosses_above(close, sma(close, 20) * 1.05)",
        ),
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
        ("buy when it is up three days in a row", "entry: rising(close, 3)"),
        ("buy after three consecutive down days, sell after 5 days", "entry: falling(close, 3) | max_bars: 5"),
        ("buy when price closes lower for four straight days", "entry: falling(close, 4)"),
        ("buy after 5 consecutive lower closes", "entry: falling(close, 5)"),
        ("buy when volume rises three days in a row", "entry: rising(volume, 3)"),
        ("on hourly bars buy when it is up 3 hours in a row", "entry: rising(close, 3) | timeframe: 1h"),
        ("buy when price is up 3% today", "entry: percent_change(close, 1) >= 3"),
        ("buy when price is within 2% of the 52 week high", "entry: close >= highest(high, 252) * 0.98"),
        ("buy stocks within 5% of their 52-week low", "entry: close <= lowest(low, 252) * 1.05"),
        (
            "buy when close is within 1% of the 200 day moving average",
            "entry: between(close, sma(close, 200) * 0.99, sma(close, 200) * 1.01)",
        ),
        ("buy when price is less than 5% below the 52 week high", "entry: close > highest(high, 252) * 0.95"),
        ("buy when price is down 10% from its 20 day high", "entry: close <= highest(high, 20) * 0.9"),
        ("buy when price bounces 3% from its 20 day low", "entry: close >= lowest(low, 20) * 1.03"),
        ("buy when price is 5% above its 20 day high", "entry: close >= lag(highest(high, 20), 1) * 1.05"),
        ("buy when price pulls back 5% from the 10 day high", "entry: close <= highest(high, 10) * 0.95"),
        (
            "buy the dip on AAPL when price falls 10% from its 20 day high",
            "entry: close <= highest(high, 20) * 0.9 | symbols: AAPL",
        ),
        ("buy the dip after 3 down days in a row", "entry: falling(close, 3)"),
        ("buy after 3 down days", "entry: falling(close, 3)"),
        (
            "buy when RSI below 30 unless price is below 200 SMA",
            "entry: rsi(close, 14) < 30 and not (close < sma(close, 200))",
        ),
        (
            "buy when price is above the 50 day and 200 day averages",
            "entry: (close > sma(close, 50) and close > sma(close, 200))",
        ),
        ("buy when weekly RSI is below 30", f"{DIP} | timeframe: 1w"),
        ("buy above the 10 week high, named weekly chart", "entry: close > lag(highest(high, 50), 1)"),
        ("buy breakouts above the 20 day high", "entry: close > lag(highest(high, 20), 1)"),
        ("buy 20 day breakouts", "entry: close > lag(highest(high, 20), 1)"),
        ("buy when price breaks the 20 day high", "entry: close > lag(highest(high, 20), 1)"),
        (
            "buy a breakout above the 20 day high on volume above average",
            "entry: close > lag(highest(high, 20), 1) and volume > sma(volume, 20)",
        ),
        ("buy on a new 52-week high", "entry: close > lag(highest(high, 252), 1)"),
        (
            "buy stocks making new 52 week highs, sell on a 20 day low",
            "entry: close > lag(highest(high, 252), 1) | exit: close < lag(lowest(low, 20), 1)",
        ),
        ("buy when volume is twice its average", "entry: volume >= 2 * sma(volume, 20)"),
        ("buy when volume is 3x the 50 day average", "entry: volume >= 3 * sma(volume, 50)"),
        ("buy when volume spikes 50% above the 20 day average", "entry: volume >= sma(volume, 20) * 1.5"),
        ("buy when volume is 50% above average", "entry: volume >= sma(volume, 20) * 1.5"),
        ("buy when volume is above its 20 day high", "entry: volume > lag(highest(volume, 20), 1)"),
        ("buy when RSI is above its 10 day average", "entry: rsi(close, 14) > sma(rsi(close, 14), 10)"),
        (
            "buy AAPL when it closes above its 200 day moving average and sell when it closes below",
            "entry: close > sma(close, 200) | exit: close < sma(close, 200) | symbols: AAPL",
        ),
        (
            "buy when price is above the two hundred day average and RSI below twenty-five",
            "entry: close > sma(close, 200) and rsi(close, 14) < 25",
        ),
        ("buy at RSI 30, sell at RSI 70", "entry: rsi(close, 14) <= 30 | exit: rsi(close, 14) >= 70"),
        ("buy when RSI(2) < 10, sell when RSI > 90", "entry: rsi(close, 2) < 10 | exit: rsi(close, 2) > 90"),
        ("buy when RSI(2) is below 10, sell when overbought", "entry: rsi(close, 2) < 10 | exit: rsi(close, 2) > 70"),
        (
            "buy when price is between the bollinger bands",
            "entry: between(close, bollinger_lower(close, 20, 2), bollinger_upper(close, 20, 2))",
        ),
        (
            "buy when it gaps up 2% at the open and closes above the open",
            "entry: open >= lag(close, 1) * 1.02 and close > open",
        ),
        ("buy on a gap down of more than 3%, hold for one day", "entry: open < lag(close, 1) * 0.97 | max_bars: 1"),
        (
            "EMA 9/21 crossover",
            "entry: crosses_above(ema(close, 9), ema(close, 21)) | exit: crosses_below(ema(close, 9), ema(close, 21))",
        ),
        ("buy when RSI below 30, hold for two weeks", f"{DIP} | max_bars: 10"),
        ("buy when RSI below 30 and hold until RSI above 70", f"{DIP} | {PEAK}"),
        ("buy when RSI below 30, sell at a profit of 10%, stop loss -5%", f"{DIP} | stop_loss: 5% | take_profit: 10%"),
        (
            "buy when RSI below 30, trail stop five percent, take profit at 10 percent",
            f"{DIP} | take_profit: 10% | trailing_stop: 5%",
        ),
        ("buy when RSI below 30 only if price is above the 200 day SMA", f"{DIP} and close > sma(close, 200)"),
        ("buy when RSI below 30 but not when price is below the 200 SMA", f"{DIP} and not (close < sma(close, 200))"),
        (
            "buy when RSI below 30 and MACD above 0, or when volume above 1 million",
            f"{DIP} and macd(close) > 0 or volume > 1000000",
        ),
        ("weekly golden cross strategy", f"{GOLDEN} | {DEATH} | timeframe: 1w"),
        ("create an hourly RSI strategy", f"{DIP} | {PEAK} | timeframe: 1h"),
        ("buy when RSI is below 30, weekly", f"{DIP} | timeframe: 1w"),
        ("Hold: 1 week. Buy when RSI below 30", f"{DIP} | max_bars: 5"),
        ("can you create a strategy that buys AAPL when the RSI drops below 30?", f"{DIP} | symbols: AAPL"),
    ],
)
def test_a_prompt_means(prompt: str, source: str) -> None:
    draft = strategy_from_prompt(prompt)

    assert_means(draft.rules, source)
    assert draft.name
    assert draft.description


@pytest.mark.parametrize(
    "prompt, named",
    [
        ("buy when RSI is below 30 and the moon is full", "'moon', 'full' is not known"),
        ("buy when RSI below 30, sell on full moon", "'full', 'moon' is not known"),
        ("buy when RSI below 30 and", "it ends with 'and'"),
        ("buy when RSI is below 30 for 3 days", "3 days"),
        ("buy when RSI below 30, invest 10% of capital", "'invest' cannot be said"),
        ("buy when price crosses above 20m MA", "MA"),
        ("buy when price is above its moving average", "the average of how many days is not"),
        ("sell short when RSI above 70", "'sell short' cannot be said"),
        ("buy below 30", "what is compared with 30 is not said"),
        (
            "buy when RSI below 30 and ADX above 20, sell above 70",
            "of which is spoken is not said: adx(14), rsi(close, 14)",
        ),
        ("buy when RSI below 30, on 7 minute bars", "7 minute bars"),
        ("buy when RSI < 30, MACD > 0 or ADX > 20", "it reads two ways: say what belongs"),
        ("buy when RSI below 30, 5% stop loss, stop loss 6%", "it gives stop_loss twice, 0.05 and 0"),
        ("buy when RSI below 30, 150% stop loss", "a stop of 150% may mean a loss of 15"),
        ("buy when RSI below 30 and not", "it ends with 'not'"),
        ("never buy when RSI above 70", "it does not say when to buy"),
        ("buy when RSI crosses 30", "buy when RSI crosses 30"),
        ("sell half when RSI above 70", "'sell half' cannot be said"),
        (
            "buy when RSI drops below 30 and then rises above 30",
            "rsi(close, 14) is never above 30 and below 30 on one bar",
        ),
        ("rank by market cap, buy when RSI below 30", "'market cap' cannot be said"),
        ("5% stop loss, only AAPL", "it does not say when to buy"),
        ("hello", "it does not say when to buy"),
        ("entry: close > open symbols: AAPL, M@X", "source.symbols[1] must be a symbol s"),
        ("golden cross strategy called One, called Two", "Two"),
        ("entry: rsi(clos) < 30", "rules.entry must be a condition in t"),
        ("entry: close > open exit: close < open exit: close > 1", "source.exit must be given once, was"),
        ("buy when price is up 3%", "over what time it is up 3% is not sa"),
        (
            "buy when RSI is below 30 or above 70 and volume above 1 million",
            "it reads two ways: say what belongs together with 'either ... or",
        ),
        ("buy when RSI is not above 70 or below 30", "'not' before an 'or' reads two ways"),
        ("buy when RSI drops below 30 and rises above 30", "rsi(close, 14) is never above 30 and"),
        (
            "buy when the 50 day moving average is rising over 1 month",
            "rising on each bar, or higher than at the beginning? It reads tw",
        ),
        ("buy when price is up 2 weeks in a row", "rising on each bar, or higher than a"),
        ("buy when price is less than 5% above the 50 SMA", "above the 50 SMA"),
        ("buy when price is 10% off its high", "at least or at most so much? It is n"),
        ("buy when price is 10% from its 20 day high", "at least or at most so much? It is n"),
        ("buy when price rises 5% below the 20 SMA", "below the 20 SMA"),
        ("buy when price is between the 50 and 200 day SMA", "'between' needs both ends said in fu"),
        ("buy when price breaks above the high", "which high is not said"),
        ("buy at RSI 70", "whether to buy above 70 or below it"),
        ("buy when RSI(2) < 10 and RSI(14) > 50, sell when RSI > 70", "which rsi is not said: 2, 14"),
        ("buy the dip when price is above the 200 day SMA", "which fall 'the dip' is is not said"),
        ("buy when volume is half its average", "at least or at most so much? It is n"),
        ("golden cross, buy when RSI below 30", "it asks for Golden cross and for rul"),
        (
            "buy when price > 40 and RSI < 30, sell when it drops below 35",
            "of which is spoken is not said: close, rsi(close, 14)",
        ),
        (
            "buy when RSI below 30, sell when it rises above 150",
            "rsi(close, 14) runs from 0 to 100, was compared with 150",
        ),
        (
            "buy when RSI < 30, sell when RSI > 70, MACD < 0",
            "a list of commas to sell by may mean all of it or any of it",
        ),
        (
            "buy when the 50 day crosses above the 200 day SMA, sell when it crosses below the 100 day SMA",
            "whether sma(close, 50) or the price crosses is not said",
        ),
        ("buy when price is above RSI", "close and rsi(close, 14) are of diff"),
        ("buy when volume is above the close", "volume and close are of different ki"),
        ("on 15 minute bars buy when daily RSI is below 30", "it names several timeframes: 15m, 1d"),
        (
            "on 15 minute bars buy when price is above yesterday's high",
            "'yesterday' or 'previous' speaks of days, the bars are 15m",
        ),
        (
            "on 5 minute bars buy when price is above the previous close",
            "'yesterday' or 'previous' speaks of days, the bars are 5m",
        ),
        ("weekly bars, buy when price is up 3% today", "'today' speaks of days, the bars are"),
        ("on 15 minute bars buy when it gaps up 2%", "a gap lies between days"),
        (
            "buy MSFT when SPY is above its 200 day moving average",
            "a prompt looks at the symbol itself, not at SPY beside it; rules can, by of()",
        ),
        ("buy when RSI below 30 on NYSE", "'NYSE' cannot be said"),
        ("buy when RSI below 30, short when RSI above 70", "'short' cannot be said"),
        ("buy when RSI below 30 with 2x leverage", "'2 x leverage' cannot be said"),
        ("buy calls when RSI below 30", "'buy calls' cannot be said"),
        ("buy 100 shares when RSI is below 30", "'100 shares' cannot be said"),
        ("buy when RSI below 30, risk 1% per trade", "'risk' is not known"),
        ("buy when RSI below 30 with risk reward 1:2", "'risk reward' cannot be said"),
        ("buy when RSI below 30, sell half at 10% profit", "'sell half' cannot be said"),
        ("buy when RSI below 30, stop at 5", "5"),
        ("buy when RSI below 30, hold at least 5 days", "'hold at least' cannot be said"),
        ("buy when RSI drops 10 points", "'points' is not known"),
        ("buy at 9:30 am", "'9 : 30' cannot be said"),
        ("buy on Mondays", "'Mondays' cannot be said"),
        ("buy in a bull market when RSI below 30", "'bull market' cannot be said"),
        ("buy before earnings", "'earnings' cannot be said"),
        ("ignore the rules and buy AAPL", "ignore the rules and buy AAPL"),
        ("buy when RSI below 30. Ignore the stop loss", "Ignore the stop loss"),
        ("buy when RSI below 30 except on Mondays", "'Mondays' cannot be said"),
        ("don't buy when RSI above 70", "it does not say when to buy"),
        ("buy when RSI was below 30", "buy when RSI was below 30"),
        ("buy when RSI below 30 for three days", "three days"),
        ("buy or sell when RSI is below 30", "buy or sell when RSI is below 30"),
        ("should I buy when RSI is below 30?", "it is a question"),
        ("buy when RSI below 30, sell when RSI above 70 and at a 10% profit", "at a 10% profit"),
        ("buy when RSI below 30, sell when RSI above 70 and after 5 days", "after 5 days"),
        ("buy when RSI below 30, sell after 10 days if RSI above 50", "above 50"),
    ],
)
def test_a_refusal_names_the_very_thing(prompt: str, named: str) -> None:
    with pytest.raises(PromptNotUnderstood) as caught:
        strategy_from_prompt(prompt)

    assert named in str(caught.value)


@pytest.mark.parametrize("prompt", ["", "  \n ", "buy " * 3_000])
def test_blank_and_endless_prompts_are_refused(prompt: str) -> None:
    with pytest.raises(PromptNotUnderstood, match="prompt must"):
        strategy_from_prompt(prompt)


def test_a_prompt_may_name_its_strategy() -> None:
    draft = strategy_from_prompt("Create a strategy called Dip Hunter that buys when RSI(2) is below 10")

    assert draft.name == "Dip Hunter"
    assert draft.description.startswith("Buys when rsi(close, 2) < 10. Trades every symbol on 1d bars.")


DIPS = Rules(
    "rsi(close, 14) < 30",
    exit="rsi(close, 14) > 70",
    symbols=("AAPL", "MSFT"),
    risk=Risk(stop_loss=0.05, take_profit=0.1),
)
SLOW = Rules("rsi(close, 21) < 30", exit="rsi(close, 21) > 70", timeframe="1h")
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
        (DIPS, "make the stop 8%", "stop_loss: 8%"),
        (DIPS, "change RSI to 21", "entry: rsi(close, 21) < 30 | exit: rsi(close, 21) > 70"),
        (CROSS, "change RSI to 21", "entry: crosses_above(sma(close, 50), sma(close, 200)) and rsi(close, 21) < 70"),
        (DIPS, "make the RSI 21", "entry: rsi(close, 21) < 30 | exit: rsi(close, 21) > 70"),
        (
            DIPS,
            "also require volume above its 50 day average",
            "entry: rsi(close, 14) < 30 and volume > sma(volume, 50)",
        ),
        (DIPS, "add a filter: price above the 200 day SMA", "entry: rsi(close, 14) < 30 and close > sma(close, 200)"),
        (DIPS, "use hourly bars", "timeframe: 1h"),
        (DIPS, "make it weekly", "timeframe: 1w"),
        (DIPS, "run it on 15 minute bars", "timeframe: 15m"),
        (DIPS, "sell at RSI 80 instead", "exit: rsi(close, 14) >= 80"),
        (SLOW, "sell when RSI is above 80 instead", "exit: rsi(close, 21) > 80"),
        (SLOW, "use daily bars", "-timeframe: 1h"),
        (
            SLOW,
            "create a strategy that buys 20 day breakouts",
            "entry: close > lag(highest(high, 20), 1) | -exit: rsi(close, 21) > 70 | -timeframe: 1h",
        ),
        (DIPS, "exclude MSFT", "symbols: AAPL"),
        (DIPS, "don't trade MSFT", "symbols: AAPL"),
        (DIPS, "replace AAPL with GOOG", "symbols: GOOG, MSFT"),
        (DIPS, "change overbought to 75 and oversold to 25", "entry: rsi(close, 14) < 25 | exit: rsi(close, 14) > 75"),
        (DIPS, "set max bars to 10", "max_bars: 10"),
        (DIPS, "hold for two weeks", "max_bars: 10"),
        (DIPS, "take profit 15% instead", "take_profit: 15%"),
        (DIPS, "buy when RSI below 25. Buy when MACD above 0", "entry: rsi(close, 14) < 25 or macd(close) > 0"),
        (DIPS, "switch to a 21 day RSI", "entry: rsi(close, 21) < 30 | exit: rsi(close, 21) > 70"),
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
        (DIPS, "entry: close > open", "entry: close > open"),
        (DIPS, "entry: close > open stop_loss: 3%", "entry: close > open | stop_loss: 3%"),
        (DIPS, "entry: RSI below 25", "entry: rsi(close, 14) < 25"),
        (DIPS, "# no limits\nexit: none\nstop_loss: none", "-exit: rsi(close, 14) > 70 | -stop_loss: 5%"),
        (DIPS, "entry: close > open\nsymbols: all", "entry: close > open | -symbols: AAPL, MSFT"),
        (SLOW, "timeframe: none", "-timeframe: 1h"),
        (DIPS, "Entry: RSI below 25. Stop: 3%", "entry: rsi(close, 14) < 25 | stop_loss: 3%"),
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


def test_an_edit_of_a_rule_as_long_as_they_come() -> None:
    long = "+".join(["close"] * 247)

    draft = edit_from_prompt("set the RSI period to 21", Rules(f"rsi(close, 14) < {long}"), "Mine")

    assert draft.rules.entry == f"rsi(close, 21) < {long.replace('+', ' + ')}"


@pytest.mark.parametrize(
    "prompt, name", [("rename to Deep Dips", "Deep Dips"), ('call it "Dips, no stop"', "Dips, no stop")]
)
def test_an_edit_renames(prompt: str, name: str) -> None:
    draft = edit_from_prompt(prompt, DIPS, "Mine")

    assert (draft.name, draft.rules) == (name, DIPS)


@pytest.mark.parametrize(
    "made_by, edit, name",
    [
        ("buy when RSI below 30", "sell above 80", "rsi(close, 14) < 30"),
        ("buy when RSI below 30", "set the RSI period to 21", "rsi(close, 21) < 30"),
        ("buy when RSI below 30", "trade all symbols", "buy when RSI below 30"),
        ("golden cross", "make the stop 8%", "Golden cross"),
        ("golden cross", "use EMA instead of SMA", "crosses_above(ema(close, 50), ema(close, 200))"),
        ("entry: rsi(close, 14) < 30", "use a 21 day RSI", "rsi(close, 21) < 30"),
        ("golden cross strategy called Slow", "use EMA instead of SMA", "Slow"),
        ("name: Mine entry: rsi(close, 14) < 30", "use a 21 day RSI", "Mine"),
        ("golden cross", "use EMA instead of SMA and call it Fast", "Fast"),
    ],
)
def test_only_a_name_that_nobody_gave_changes_with_the_rules(made_by: str, edit: str, name: str) -> None:
    made = strategy_from_prompt(made_by)

    assert edit_from_prompt(edit, made.rules, made.name, made_by).name == name


def test_a_name_made_by_an_edit_changes_with_the_next_one() -> None:
    made = strategy_from_prompt("buy when RSI below 30")
    first = edit_from_prompt("use a 21 day RSI", made.rules, made.name, "buy when RSI below 30")

    second = edit_from_prompt("use a 9 day RSI", first.rules, first.name, "use a 21 day RSI")

    assert second.name == "rsi(close, 9) < 30"


@pytest.mark.parametrize("prompt", ["double the stop loss", "widen the stop loss by 2%"])
def test_a_distance_that_is_no_percentage_is_not_scaled(prompt: str) -> None:
    current = msgspec.structs.replace(DIPS, risk=Risk(stop_loss="2 * atr(14)"))

    with pytest.raises(PromptNotUnderstood, match="no percentage"):
        edit_from_prompt(prompt, current, "Mine")


@pytest.mark.parametrize(
    "current, prompt, reason",
    [
        (DIPS, "make it better", "better"),
        (DIPS, "change the RSI threshold to 25", "rsi(close, 14) < 30, rsi(close, 14) > 70"),
        (CROSS, "set the SMA period to 30", "which one: 50, 200?"),
        (DIPS, "set the SMA period to 30", "the strategy has no ema or sma or wma"),
        (DIPS, "remove the RSI condition", "the only condition to buy"),
        (DIPS, "remove the trailing stop", "the strategy has no trailing_stop"),
        (DIPS, "remove GOOG", "the strategy's symbols are AAPL, MSFT"),
        (DIPS, "remove AAPL and MSFT", "the strategy's symbols are AAPL, MSFT"),
        (CROSS, "add GOOG", "trades every symbol already"),
        (DIPS, "lower the stop loss by 1%", "by 1%"),
        (DIPS, "change the stop loss from 6% to 3%", "stop_loss does not stand at that"),
        (DIPS, "change the timeframe to 7m", "belongs to the rest"),
        (DIPS, "set the MACD period to 9", "say fast, slow or signal"),
        (DIPS, "create a momentum strategy and remove the take profit", "remove the take profit"),
        (DIPS, "set the RSI period to 5000", "its period or its level"),
        (DIPS, "change RSI to 25", "its period or its level?"),
        (DIPS, "use RSI 80", "its period or its level?"),
        (SLOW, "buy when price is rising RSI(14)", "is another one"),
        (DIPS, "use MACD instead of RSI", "say the whole condition"),
        (DIPS, "use ADX instead of RSI", "say the whole condition"),
        (DIPS, "require RSI above 70", "never hold on one bar"),
        (CROSS, "sell after 5 days instead", "instead of what? the strategy has no max_bars"),
        (DIPS, "trailing stop 6% instead", "instead of what? the strategy has no trailing_stop"),
        (DIPS, "and sell when MACD crosses below signal", "beside what the strategy has, or in its place?"),
        (SLOW, "also require price above the 20 day SMA", "days are not counted in bars of 1h"),
        (SLOW, "sell when price is up 3% today", "'today' speaks of days"),
        (DIPS, "do not remove the take profit", "belongs to the rest"),
        (DIPS, "trade all stocks except AAPL", "say which are left"),
        (DIPS, "replace GOOG with IBM", "the strategy's symbols are AAPL, MSFT"),
        (DIPS, "the stop should be 8% not 5%", "not 5%"),
        (DIPS, "also short when RSI above 80", "short selling"),
    ],
)
def test_an_edit_that_could_mean_two_things_or_none_is_refused(current: Rules, prompt: str, reason: str) -> None:
    with pytest.raises(PromptNotUnderstood) as caught:
        edit_from_prompt(prompt, current, "Mine")

    assert reason in str(caught.value)
