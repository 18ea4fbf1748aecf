// Candles, volume and the fan on one lightweight chart; React knows only this interface.
import {
  CandlestickSeries,
  ColorType,
  createChart,
  CrosshairMode,
  HistogramSeries,
  LineStyle,
  type Time,
  type UTCTimestamp,
} from "lightweight-charts";

import type { ChartBar } from "../data/client";
import { formatDay, formatInstant, priceDecimals } from "../data/format";
import { type FanStep, type Span, visibleSpan } from "./fan";
import { FanSeries } from "./fanSeries";
import type { Palette } from "./palette";

/** Bars that have ended, and the one that still forms. */
export interface DrawnBars {
  closed: readonly ChartBar[];
  open: ChartBar | null;
}

export interface ForecastChart {
  setData(bars: DrawnBars, fan: readonly FanStep[], isDaily: boolean): void;
  setPalette(palette: Palette): void;
  show(span: Span): void;
  destroy(): void;
}

/** Draws into `container`; `onHover` is told the time under the crosshair, or null. */
export function createForecastChart(
  container: HTMLElement,
  onHover: (time: number | null) => void,
): ForecastChart {
  const chart = createChart(container, {
    autoSize: true,
    rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.08, bottom: 0.2 } },
    timeScale: { borderVisible: false, minBarSpacing: 0.3, maxBarSpacing: 36 },
    crosshair: { mode: CrosshairMode.Normal },
    handleScroll: { vertTouchDrag: false },
    localization: { locale: "en-GB" },
  });
  const volume = chart.addSeries(HistogramSeries, {
    priceScaleId: "volume",
    priceFormat: { type: "volume" },
    lastValueVisible: false,
    priceLineVisible: false,
  });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
  const fan = chart.addCustomSeries(new FanSeries(), { priceLineVisible: false });
  const candles = chart.addSeries(CandlestickSeries, { priceLineStyle: LineStyle.Dotted });

  let shown: readonly ChartBar[] = [];
  let forming: ChartBar | null = null;
  let colors: Palette | null = null;
  let nSteps = 0;

  let wanted: Span | null = null;

  // A range that is set before the chart knows its width is lost, so it waits for the width.
  const applySpan = () => {
    const width = chart.timeScale().width();
    if (wanted === null || width === 0) return;
    chart.timeScale().setVisibleLogicalRange(visibleSpan(wanted, shown.length, nSteps, width));
    wanted = null;
  };
  chart.timeScale().subscribeSizeChange(applySpan);
  chart.subscribeCrosshairMove(({ time }) => onHover(typeof time === "number" ? time : null));

  const paintBars = () => {
    if (!colors) return;
    const { upVolume, downVolume, muted } = colors;
    const drawn = forming ? [...shown, forming] : shown;
    candles.setData(
      drawn.map((bar) => ({
        time: bar.time as UTCTimestamp,
        open: bar.open,
        high: bar.high,
        low: bar.low,
        close: bar.close,
        // What was never traded, or has not ended, does not look like the others.
        ...(bar.is_simulated || bar === forming ? { color: muted, wickColor: muted } : {}),
      })),
    );
    volume.setData(
      drawn.map((bar) => ({
        time: bar.time as UTCTimestamp,
        value: bar.volume,
        color: bar.close >= bar.open ? upVolume : downVolume,
      })),
    );
  };

  return {
    setData(bars, steps, isDaily) {
      shown = bars.closed;
      forming = bars.open;
      const last = shown.at(-1);
      nSteps = Math.max(0, steps.filter((step) => step.time > (last?.time ?? 0)).length);
      const digits = priceDecimals(last?.close ?? 1);
      const priceFormat = { type: "price", precision: digits, minMove: 10 ** -digits } as const;
      candles.applyOptions({ priceFormat });
      fan.applyOptions({ priceFormat });
      fan.setData(steps.map((step) => ({ time: step.time as UTCTimestamp, step })));
      const timeFormatter = (time: Time) => (isDaily ? formatDay : formatInstant)(time as number);
      chart.applyOptions({
        timeScale: { timeVisible: !isDaily },
        localization: { timeFormatter },
      });
      paintBars();
    },
    setPalette(palette) {
      colors = palette;
      const { surface, muted, line, up, down } = palette;
      chart.applyOptions({
        layout: {
          background: { type: ColorType.Solid, color: surface },
          textColor: muted,
          fontFamily: getComputedStyle(container).fontFamily,
        },
        grid: { vertLines: { color: line }, horzLines: { color: line } },
      });
      candles.applyOptions({
        upColor: up,
        downColor: down,
        wickUpColor: up,
        wickDownColor: down,
        borderVisible: false,
        priceLineColor: muted,
      });
      fan.applyOptions({ color: palette.fan, bandColors: palette.fanBands });
      paintBars();
    },
    show(span) {
      wanted = span;
      applySpan();
    },
    destroy() {
      chart.remove();
    },
  };
}
