// The geometry of the forecast fan: from points and bands to what is drawn. Pure functions.
import type { ChartBar, HorizonForecast } from "../data/client";

export interface FanBand {
  level: number;
  lower: number;
  upper: number;
}

/** One step of the fan: widest band first, so that narrower ones are painted over it. */
export interface FanStep {
  time: number;
  median: number;
  bands: FanBand[];
}

/**
 * The steps of a forecast, starting from a point of no width on the bar it was made from.
 *
 * A fresh forecast starts at the last bar, a stale one at the bar it knew: later bars then lie
 * over its fan. Prices are carried onto the chart's scale, which splits and dividends have moved
 * since. Without a bar before the first step there is no fan.
 */
export function fanSteps(bars: readonly ChartBar[], forecast: HorizonForecast): FanStep[] {
  const first = forecast.points[0];
  const anchor = first && bars.findLast((bar) => bar.time < first.ts);
  if (!anchor) return [];
  const scale = anchor.close / forecast.last_close;
  const bands = forecast.bands.toSorted((a, b) => b.level - a.level);
  const start: FanStep = {
    time: anchor.time,
    median: anchor.close,
    bands: bands.map(({ level }) => ({ level, lower: anchor.close, upper: anchor.close })),
  };
  const steps = forecast.points.map((point, index) => ({
    time: point.ts,
    median: point.value * scale,
    bands: bands.flatMap(({ level, points }) => {
      const own = points[index];
      return own ? [{ level, lower: own.lower * scale, upper: own.upper * scale }] : [];
    }),
  }));
  return [start, ...steps];
}

export interface Placed {
  x: number;
  step: FanStep;
}

/**
 * Steps with further ones between them, so that the fan opens like the square root of time, as
 * uncertainty grows: medians move linearly, squared distances from the median do, too.
 */
export function smoothed(placed: readonly Placed[], parts: number): Placed[] {
  const dense: Placed[] = placed.slice(0, 1);
  for (let i = 1; i < placed.length; i++) {
    const [from, to] = [placed[i - 1], placed[i]];
    if (!from || !to) continue;
    for (let part = 1; part <= parts; part++) dense.push(between(from, to, part / parts));
  }
  return dense;
}

function between(from: Placed, to: Placed, share: number): Placed {
  if (share === 1) return to;
  const mix = (a: number, b: number) => a + (b - a) * share;
  const median = mix(from.step.median, to.step.median);
  const reach = (a: number, b: number) => {
    const squared = mix(
      signedSquare(a - from.step.median),
      signedSquare(b - to.step.median),
    );
    return median + Math.sign(squared) * Math.sqrt(Math.abs(squared));
  };
  const bands = to.step.bands.map((band, index) => {
    const before = from.step.bands[index] ?? { lower: from.step.median, upper: from.step.median };
    return {
      level: band.level,
      lower: reach(before.lower, band.lower),
      upper: reach(before.upper, band.upper),
    };
  });
  const time = mix(from.step.time, to.step.time);
  return { x: mix(from.x, to.x), step: { time, median, bands } };
}

function signedSquare(distance: number): number {
  return Math.sign(distance) * distance * distance;
}

/** The outline of one band: along its upper edge and back along its lower one, as [x, price]. */
export function outline(placed: readonly Placed[], bandIndex: number): [number, number][] {
  const edge = (side: "lower" | "upper") =>
    placed.flatMap(({ x, step }): [number, number][] => {
      const band = step.bands[bandIndex];
      return band ? [[x, band[side]]] : [];
    });
  return [...edge("upper"), ...edge("lower").reverse()];
}

export type Span = "forecast" | "6M" | "1Y" | "5Y";
export const SPANS: readonly Span[] = ["forecast", "6M", "1Y", "5Y"];

const SESSIONS: Record<Exclude<Span, "forecast">, number> = { "6M": 126, "1Y": 252, "5Y": 1260 };

const LEAST_BAR_PX = 5;

/**
 * Which logical bars to show in `widthPx`: enough history to judge the fan, and room to its right.
 * Where there is little width there is less history, so that the fan stays readable.
 */
export function visibleSpan(
  span: Span,
  nBars: number,
  nSteps: number,
  widthPx: number,
): { from: number; to: number } {
  const room = Math.max(10, Math.floor(widthPx / LEAST_BAR_PX) - nSteps);
  const wanted = span === "forecast" ? Math.min(22 + 5 * nSteps, room) : SESSIONS[span];
  const history = Math.min(wanted, nBars);
  const margin = Math.max(1, (history + nSteps) * 0.04);
  return { from: nBars - history, to: nBars - 1 + nSteps + margin };
}

/** What the fan says at one time, or at its end where none is given. */
export function stepAt(steps: readonly FanStep[], time: number | null): FanStep | undefined {
  return time === null ? steps.at(-1) : steps.find((step, index) => index > 0 && step.time === time);
}
