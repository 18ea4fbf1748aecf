import { describe, expect, it } from "vitest";

import {
  formatAge,
  formatDay,
  formatInstant,
  formatPercent,
  formatPrice,
  formatSigned,
  formatVolume,
  horizonInWords,
  MISSING,
  priceDecimals,
} from "../src/data/format";

describe("prices", () => {
  it("carry the sign of their currency and cents", () => {
    expect(formatPrice(1234.5, "USD")).toBe("$1,234.50");
    expect(formatPrice(0.5, "EUR")).toBe("€0.500");
  });

  it("of small coins show enough digits to tell them apart", () => {
    expect(formatPrice(0.00001234, "USD")).toBe("$0.0000123");
    expect([200, 1, 0.99, 0.1, 0.012].map(priceDecimals)).toEqual([2, 2, 3, 3, 4]);
    expect(priceDecimals(0)).toBe(2);
  });

  it("in a currency that is no ISO code still name it", () => {
    expect(formatPrice(3.5, "USDT")).toBe("3.50 USDT");
  });

  it("that are missing are a dash, never zero", () => {
    for (const missing of [null, undefined, Number.NaN]) {
      expect(formatPrice(missing, "USD")).toBe(MISSING);
      expect(formatPercent(missing)).toBe(MISSING);
      expect(formatSigned(missing)).toBe(MISSING);
      expect(formatVolume(missing)).toBe(MISSING);
    }
  });
});

describe("shares", () => {
  it("are rounded percentages", () => {
    expect(formatPercent(0.375)).toBe("38%");
    expect(formatPercent(0.5172, 1)).toBe("51.7%");
    expect(formatPercent(-0.0001)).toBe("0%");
  });

  it("with a sign use a true minus, and zero has none", () => {
    expect(formatSigned(0.028)).toBe("+2.8%");
    expect(formatSigned(-0.028)).toBe("−2.8%");
    expect(formatSigned(-0.0001)).toBe("0.0%");
    expect(formatSigned(0)).toBe("0.0%");
  });
});

describe("instants", () => {
  it("are told in UTC wherever they are read", () => {
    expect(formatDay("2013-03-01T23:30:00Z")).toBe("1 Mar 2013");
    expect(formatDay(1362096000)).toBe("1 Mar 2013");
    expect(formatInstant("2013-03-01T16:00:00-05:00")).toBe("1 Mar 2013, 21:00 UTC");
    expect(formatDay(null)).toBe(MISSING);
  });

  it("have an age in their largest unit", () => {
    expect(formatAge(0)).toBe("less than a minute old");
    expect(formatAge(61)).toBe("1 minute old");
    expect(formatAge(7_300)).toBe("2 hours old");
    expect(formatAge(86_400 * 3.9)).toBe("3 days old");
    expect(formatAge(86_400 * 5000)).toBe("13 years old");
  });
});

describe("horizons", () => {
  it("are told in words", () => {
    const names = ["1D", "5d", "1W", "1M", "30m", "4h", "odd"];
    const words = ["1 day", "5 days", "1 week", "1 month", "30 minutes", "4 hours", "odd"];
    expect(names.map(horizonInWords)).toEqual(words);
  });
});
