import { describe, expect, it } from "vitest";

import { fanSteps, outline, type Placed, smoothed, stepAt, visibleSpan } from "../src/chart/fan";
import type { ChartBar, HorizonForecast } from "../src/data/client";

const DAY = 86_400;

function bar(day: number, close: number): ChartBar {
  return { time: day * DAY, open: close, high: close, low: close, close, volume: 1, is_simulated: false };
}

function forecastFrom(day: number, lastClose: number, nSteps: number): HorizonForecast {
  const points = (width: number) =>
    Array.from({ length: nSteps }, (_, index) => ({
      ts: (day + index + 1) * DAY,
      value: lastClose + index + 1,
      lower: lastClose + index + 1 - width,
      upper: lastClose + index + 1 + 2 * width,
    }));
  return {
    last_close: lastClose,
    points: points(3),
    bands: [
      { level: 0.5, points: points(1) },
      { level: 0.8, points: points(3) },
      { level: 0.95, points: points(5) },
    ],
  } as HorizonForecast;
}

describe("the steps of a fan", () => {
  const bars = [bar(1, 99), bar(2, 100)];

  it("start at the last bar without width and continue with every point", () => {
    const steps = fanSteps(bars, forecastFrom(2, 100, 3));
    expect(steps.map((step) => step.time / DAY)).toEqual([2, 3, 4, 5]);
    expect(steps[0]?.median).toBe(100);
    expect(steps[0]?.bands.every(({ lower, upper }) => lower === 100 && upper === 100)).toBe(true);
    expect(steps.at(-1)?.median).toBe(103);
  });

  it("hold the widest band first, so that the narrow ones are painted over it", () => {
    const steps = fanSteps(bars, forecastFrom(2, 100, 2));
    for (const { bands } of steps) expect(bands.map((band) => band.level)).toEqual([0.95, 0.8, 0.5]);
    expect(steps[1]?.bands[0]).toEqual({ level: 0.95, lower: 96, upper: 111 });
  });

  it("of a stale forecast start at the bar that it knew, not at a later one", () => {
    const steps = fanSteps([...bars, bar(3, 120)], forecastFrom(2, 100, 3));
    expect(steps[0]).toMatchObject({ time: 2 * DAY, median: 100 });
  });

  it("are carried onto a chart whose prices a later split has halved", () => {
    const steps = fanSteps([bar(1, 49.5), bar(2, 50)], forecastFrom(2, 100, 1));
    expect(steps[1]?.median).toBeCloseTo(50.5);
    expect(steps[1]?.bands[0]?.upper).toBeCloseTo(55.5);
  });

  it("are none without a bar to start from or a point to go to", () => {
    expect(fanSteps([], forecastFrom(2, 100, 3))).toEqual([]);
    expect(fanSteps(bars, forecastFrom(2, 100, 0))).toEqual([]);
  });

  it("are found by their time; without one the end is meant", () => {
    const steps = fanSteps(bars, forecastFrom(2, 100, 3));
    expect(stepAt(steps, 4 * DAY)).toBe(steps[2]);
    expect(stepAt(steps, null)).toBe(steps[3]);
    expect(stepAt(steps, 2 * DAY)).toBeUndefined();
    expect(stepAt([], null)).toBeUndefined();
  });
});

describe("the smoothed fan", () => {
  const placed: Placed[] = [
    { x: 0, step: { time: 0, median: 100, bands: [{ level: 0.8, lower: 100, upper: 100 }] } },
    { x: 40, step: { time: 4, median: 104, bands: [{ level: 0.8, lower: 96, upper: 112 }] } },
  ];

  it("opens like the square root of time", () => {
    const quarter = smoothed(placed, 4)[1];
    expect(quarter).toMatchObject({ x: 10, step: { time: 1, median: 101 } });
    expect(quarter?.step.bands[0]?.upper).toBeCloseTo(101 + 8 * Math.sqrt(1 / 4));
    expect(quarter?.step.bands[0]?.lower).toBeCloseTo(101 - 8 * Math.sqrt(1 / 4));
  });

  it("passes through every step exactly", () => {
    const dense = smoothed(placed, 7);
    expect(dense).toHaveLength(8);
    expect(dense[0]).toBe(placed[0]);
    expect(dense.at(-1)).toBe(placed[1]);
  });

  it("is outlined along the upper edge and back along the lower one", () => {
    expect(outline(placed, 0)).toEqual([
      [0, 100],
      [40, 112],
      [40, 96],
      [0, 100],
    ]);
    expect(outline(placed, 1)).toEqual([]);
  });
});

describe("the span on show", () => {
  it("holds the whole fan and room to its right", () => {
    for (const span of ["forecast", "6M", "1Y", "5Y"] as const) {
      const { from, to } = visibleSpan(span, 1000, 21, 900);
      expect(from).toBeGreaterThanOrEqual(0);
      expect(to).toBeGreaterThan(999 + 21);
    }
  });

  it("never begins before the first bar", () => {
    expect(visibleSpan("5Y", 40, 5, 900).from).toBe(0);
    expect(visibleSpan("forecast", 3, 1, 900).from).toBe(0);
  });

  it("shows more history for a longer forecast", () => {
    const history = (nSteps: number) => 1000 - visibleSpan("forecast", 1000, nSteps, 900).from;
    expect(history(21)).toBeGreaterThan(history(1));
  });

  it("keeps the fan readable where there is little width", () => {
    const { from, to } = visibleSpan("forecast", 1000, 21, 300);
    expect(300 / (to - from)).toBeGreaterThan(4.5);
    expect(1000 - from).toBeGreaterThanOrEqual(10);
  });
});
