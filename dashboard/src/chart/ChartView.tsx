// The chart as a React component: data and theme in, the hovered time out.
import { useEffect, useRef } from "react";

import type { ChartBar } from "../data/client";
import type { Theme } from "../data/theme";
import type { FanStep, Span } from "./fan";
import { createForecastChart, type ForecastChart } from "./forecastChart";
import { readPalette } from "./palette";

interface Props {
  bars: readonly ChartBar[];
  openBar: ChartBar | null;
  fan: readonly FanStep[];
  isDaily: boolean;
  span: Span;
  theme: Theme;
  description: string;
  onHover: (time: number | null) => void;
}

export function ChartView({ bars, openBar, fan, isDaily, span, theme, ...rest }: Props) {
  const { description, onHover } = rest;
  const container = useRef<HTMLDivElement>(null);
  const chart = useRef<ForecastChart | null>(null);

  useEffect(() => {
    if (!container.current) return;
    const created = createForecastChart(container.current, onHover);
    chart.current = created;
    return () => {
      chart.current = null;
      created.destroy();
    };
  }, [onHover]);

  useEffect(() => {
    if (container.current) chart.current?.setPalette(readPalette(container.current));
  }, [theme]);

  useEffect(() => {
    chart.current?.setData({ closed: bars, open: openBar }, fan, isDaily);
  }, [bars, openBar, fan, isDaily]);

  useEffect(() => {
    chart.current?.show(span);
  }, [span, bars, fan]);

  return (
    <div className="chart" role="group" aria-label={description} ref={container} />
  );
}
