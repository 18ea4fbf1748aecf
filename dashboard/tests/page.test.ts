import { describe, expect, it } from "vitest";

import { readView, writeView } from "../src/data/location";
import { ORIGINS, originsInWords, VERDICTS } from "../src/panels/verdicts";
import { axisAround } from "../src/parts/Gauge";

describe("the address", () => {
  it("is read back as it was written", () => {
    const view = { symbol: "BTC/USDT", horizon: "1W" };
    expect(readView(writeView("", view))).toEqual(view);
  });

  it("keeps what it does not know and what is not changed", () => {
    expect(writeView("?symbol=A&horizon=1D&x=1", { symbol: "B" })).toBe("?symbol=B&horizon=1D&x=1");
    expect(writeView("?symbol=A", { symbol: null })).toBe("");
  });

  it("without a symbol or horizon leaves the choice to the page", () => {
    expect(readView("?symbol=")).toEqual({ symbol: null, horizon: null });
  });
});

describe("the words of a track record", () => {
  it("name every origin, so that a replay is not taken for a live record", () => {
    const words = originsInWords(["live", "walk_forward"]);
    expect(words).toContain(ORIGINS.live.meaning);
    expect(words).toContain(ORIGINS.walk_forward.meaning);
  });

  it("call only proven skill good", () => {
    for (const [verdict, { tone }] of Object.entries(VERDICTS)) {
      expect(tone).toBe(verdict.startsWith("skill") ? "good" : "none");
    }
  });
});

describe("an axis", () => {
  it("is symmetric about its reference and holds every known value", () => {
    const [from, to] = axisAround(0.5, [0.7, null, Number.NaN, 0.45], 0.1);
    expect((from + to) / 2).toBeCloseTo(0.5);
    expect(to).toBeGreaterThan(0.7);
    expect(axisAround(0, [0.001], 0.05)).toEqual([-0.05, 0.05]);
  });
});
