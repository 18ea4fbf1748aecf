// Numbers, prices and instants as text. A missing value is an en dash, never a zero.
const LOCALE = "en-GB";
export const MISSING = "–";

export type Maybe = number | null | undefined;

export function isKnown(value: Maybe): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Digits after the point that a price of this size needs: cents, or more for small coins. */
export function priceDecimals(price: number): number {
  if (!(price > 0) || price >= 1) return 2;
  return Math.min(8, 2 - Math.floor(Math.log10(price)));
}

export function formatPrice(price: Maybe, currency: string): string {
  if (!isKnown(price)) return MISSING;
  const digits = priceDecimals(Math.abs(price));
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  try {
    const style = { style: "currency", currency, currencyDisplay: "narrowSymbol" } as const;
    return new Intl.NumberFormat(LOCALE, { ...options, ...style }).format(price);
  } catch {
    // Not every quote currency is an ISO code: USDT is none.
    return `${new Intl.NumberFormat(LOCALE, options).format(price)} ${currency}`;
  }
}

export function formatPercent(share: Maybe, digits = 0): string {
  if (!isKnown(share)) return MISSING;
  const text = (share * 100).toFixed(digits);
  return `${isZero(text) ? text.replace("-", "") : minus(text)}%`;
}

export function formatSigned(share: Maybe, digits = 1): string {
  if (!isKnown(share)) return MISSING;
  const text = (share * 100).toFixed(digits);
  if (isZero(text)) return `${text.replace("-", "")}%`;
  return `${share > 0 ? "+" : ""}${minus(text)}%`;
}

export function formatCount(count: number): string {
  return new Intl.NumberFormat(LOCALE).format(count);
}

export function formatVolume(volume: Maybe): string {
  if (!isKnown(volume)) return MISSING;
  return new Intl.NumberFormat(LOCALE, { notation: "compact", maximumFractionDigits: 1 }).format(
    volume,
  );
}

/** The day of an instant in UTC: a session's date does not depend on where it is read. */
export function formatDay(instant: string | number | null): string {
  if (instant === null) return MISSING;
  return new Intl.DateTimeFormat(LOCALE, {
    day: "numeric",
    month: "short",
    year: "numeric",
    timeZone: "UTC",
  }).format(dateOf(instant));
}

export function formatInstant(instant: string | number): string {
  const time = new Intl.DateTimeFormat(LOCALE, {
    hour: "2-digit",
    minute: "2-digit",
    timeZone: "UTC",
  }).format(dateOf(instant));
  return `${formatDay(instant)}, ${time} UTC`;
}

/** How long ago, in the largest unit that is not zero. */
export function formatAge(seconds: number): string {
  const units: [string, number][] = [
    ["year", 31_557_600],
    ["day", 86_400],
    ["hour", 3_600],
    ["minute", 60],
  ];
  for (const [unit, length] of units) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${formatCount(count)} ${unit}${count === 1 ? "" : "s"} old`;
  }
  return "less than a minute old";
}

/** `1M` in words; anything unusual stays as it is written. */
export function horizonInWords(horizon: string): string {
  const match = /^(\d+)([mhdDWM])$/.exec(horizon);
  if (!match) return horizon;
  const unit = { m: "minute", h: "hour", d: "day", D: "day", W: "week", M: "month" }[
    match[2] as "m" | "h" | "d" | "D" | "W" | "M"
  ];
  return match[1] === "1" ? `1 ${unit}` : `${match[1]} ${unit}s`;
}

function dateOf(instant: string | number): Date {
  return new Date(typeof instant === "number" ? instant * 1000 : instant);
}

function isZero(text: string): boolean {
  return Number(text) === 0;
}

function minus(text: string): string {
  return text.replace("-", "−");
}
