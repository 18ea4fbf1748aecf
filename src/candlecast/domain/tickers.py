"""What providers call a symbol, and which symbol a provider means.

1. An entry of `Symbol.aliases` for the provider counts before any rule.
2. A provider with rules of its own (Yahoo, Alpaca, CoinGecko, the crypto exchanges) names a symbol
   by its asset class and calendar, and has none for what it does not trade: the stock VOD of
   London must not become the VOD of New York because both are written alike.
3. Any other provider is asked for the ticker itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from candlecast.domain.market import Symbol
from candlecast.errors import CandlecastError, InvalidSpec, NotFound


def _table(entries: str) -> dict[str, str]:
    return dict(entry.split(":") for entry in entries.split())


US_CALENDARS: Final = frozenset(
    {"AMEX", "ARCX", "BATS", "IEXG", "NASDAQ", "NYSE", "XASE", "XNAS", "XNYS"}
)
YAHOO_SUFFIXES: Final = dict.fromkeys(US_CALENDARS, "") | _table(
    """
    ASEX:AT BVMF:SA XAMS:AS XASX:AX XBKK:BK XBOG:CL XBOM:BO XBRU:BR XBUD:BD XBUE:BA XCSE:CO
    XDUB:IR XDUS:DU XETR:DE XFRA:F XHAM:HM XHEL:HE XHKG:HK XICE:IC XIDX:JK XIST:IS XJSE:JO
    XKAR:KA XKLS:KL XKRX:KS XLIS:LS XLIT:VS XLON:L XMAD:MC XMEX:MX XMIL:MI XMOS:ME XNZE:NZ
    XOSL:OL XPAR:PA XPHS:PS XPRA:PR XRIS:RG XSAU:SR XSES:SI XSGO:SN XSHG:SS XSTO:ST XSTU:SG
    XSWX:SW XTAE:TA XTAI:TW XTAL:TL XTKS:T XTSE:TO XWAR:WA XWBO:VI
    """
)
"""What Yahoo writes behind the dot, by calendar; of a calendar of two exchanges the larger one."""
YAHOO_COINS: Final = _table(
    """
    APT:APT21794 ARB:ARB11841 COMP:COMP5692 GRT:GRT6719 IMX:IMX10603 MNT:MNT27075 PEPE:PEPE24478
    STX:STX4847 SUI:SUI20947 TAO:TAO22974 TON:TON11419 UNI:UNI7083
    """
)
"""Coins whose plain name means another coin at Yahoo."""
VENUE_DOLLARS: Final = _table(
    """
    binance:USDT binanceus:USD bingx:USDT bitfinex:USD bitget:USDT bithumb:USD bitmart:USDT
    bitstamp:USD bitvavo:USD bybit:USDT coinbase:USD coinbaseexchange:USD cryptocom:USD gate:USDT
    gemini:USD htx:USDT kraken:USD kucoin:USDT mexc:USDT okx:USDT poloniex:USDT upbit:USD
    """
)
"""What stands for the US dollar at a crypto exchange, by its name in ccxt."""
COINGECKO_COINS: Final = _table(
    """
    AAVE:aave ADA:cardano APT:aptos ARB:arbitrum ATOM:cosmos AVAX:avalanche-2 BCH:bitcoin-cash
    BNB:binancecoin BTC:bitcoin DAI:dai DOGE:dogecoin DOT:polkadot ETC:ethereum-classic
    ETH:ethereum FIL:filecoin HBAR:hedera-hashgraph ICP:internet-computer LINK:chainlink
    LTC:litecoin NEAR:near SHIB:shiba-inu SOL:solana SUI:sui TON:the-open-network TRX:tron
    UNI:uniswap USDC:usd-coin USDT:tether VET:vechain XLM:stellar XMR:monero XRP:ripple
    """
)
PREFERRED: Final = re.compile(r"\.PR(?=[A-Z]$)")


def vendor_name(provider: str, symbol: Symbol) -> str:
    """What `provider` calls `symbol`; NotFound where it trades no such thing."""
    for named, alias in symbol.aliases:
        if named == provider:
            return alias
    if provider == "yahoo":
        return _yahoo(symbol)
    if provider == "alpaca":
        return _alpaca(symbol)
    if provider == "coingecko":
        return _coingecko(symbol)
    if provider in VENUE_DOLLARS:
        return _venue(provider, symbol)
    return symbol.ticker


def vendor_names(provider: str, symbols: Iterable[Symbol]) -> tuple[dict[str, str], dict[str, str]]:
    """Tickers by what `provider` calls them, and why the other tickers cannot be asked for."""
    sharing: dict[str, list[str]] = {}
    failures = {}
    for symbol in dict.fromkeys(symbols):
        try:
            sharing.setdefault(vendor_name(provider, symbol), []).append(symbol.ticker)
        except CandlecastError as error:
            failures[symbol.ticker] = str(error)
    for name, tickers in sharing.items():
        if len(tickers) > 1:
            failures |= dict.fromkeys(tickers, _clash(provider, name, tickers))
    return {name: tickers[0] for name, tickers in sharing.items() if len(tickers) == 1}, failures


def _clash(provider: str, name: str, tickers: Iterable[str]) -> str:
    return (
        f"{' and '.join(sorted(set(tickers)))} are all called {name!r} by {provider}; "
        "keep one of them, or give the others an alias"
    )


def _yahoo(symbol: Symbol) -> str:
    ticker = symbol.ticker
    if symbol.asset_class == "crypto":
        base, quote = _pair(symbol)
        return f"{YAHOO_COINS.get(base, base)}-{quote}"
    if symbol.asset_class == "fx":
        return "".join(_pair(symbol)) + "=X"
    if symbol.asset_class == "index":
        return ticker if ticker.startswith("^") else f"^{ticker}"
    if symbol.calendar not in YAHOO_SUFFIXES:
        raise _not_offered("yahoo", symbol)
    suffix = YAHOO_SUFFIXES[symbol.calendar]
    ending = f".{suffix}" if suffix else ""
    root = ticker.removesuffix(ending)
    if symbol.calendar == "XHKG" and root.isdigit():
        root = root.zfill(4)
    return PREFERRED.sub("-P", root).replace(".", "-") + ending


def _alpaca(symbol: Symbol) -> str:
    if symbol.asset_class == "crypto":
        return "/".join(_pair(symbol))
    if symbol.asset_class not in {"equity", "etf"} or symbol.calendar not in US_CALENDARS:
        raise _not_offered("alpaca", symbol)
    return symbol.ticker


def _coingecko(symbol: Symbol) -> str:
    if symbol.asset_class == "crypto":
        base, quote = _pair(symbol)
        if base in COINGECKO_COINS and quote == "USD":
            return COINGECKO_COINS[base]
    raise _not_offered("coingecko", symbol)


def _venue(venue: str, symbol: Symbol) -> str:
    if symbol.asset_class != "crypto":
        raise _not_offered(venue, symbol)
    base, quote = _pair(symbol)
    return f"{base}/{VENUE_DOLLARS[venue] if quote == 'USD' else quote}"


def _pair(symbol: Symbol) -> tuple[str, str]:
    base, _, quote = symbol.ticker.rpartition("-")
    if not base and symbol.asset_class == "fx" and len(quote) == 6:
        return quote[:3], quote[3:]
    if not base or not quote:
        raise InvalidSpec(
            f"{symbol.asset_class} {symbol.ticker!r} is no pair; write base-quote such as BTC-USD"
        )
    return base, quote


def _not_offered(provider: str, symbol: Symbol) -> NotFound:
    return NotFound(
        f"{provider} has no name for {symbol.asset_class} {symbol.ticker!r} of {symbol.calendar}; "
        "ask another provider, or give the symbol an alias"
    )
