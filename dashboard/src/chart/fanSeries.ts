// The forecast fan as a custom series of lightweight-charts.
import type {
  CustomData,
  CustomSeriesOptions,
  CustomSeriesWhitespaceData,
  ICustomSeriesPaneRenderer,
  ICustomSeriesPaneView,
  PaneRendererCustomData,
  PriceToCoordinateConverter,
  Time,
} from "lightweight-charts";
import { customSeriesDefaultOptions } from "lightweight-charts";

import { type FanStep, outline, type Placed, smoothed } from "./fan";

type Target = Parameters<ICustomSeriesPaneRenderer["draw"]>[0];

export interface FanDatum extends CustomData<Time> {
  step: FanStep;
}

export interface FanOptions extends CustomSeriesOptions {
  /** One fill for each band, widest first. */
  bandColors: readonly string[];
}

const PARTS_PER_STEP = 12;

class FanRenderer implements ICustomSeriesPaneRenderer {
  private placed: Placed[] = [];
  private options: FanOptions | null = null;

  update(data: PaneRendererCustomData<Time, FanDatum>, options: FanOptions): void {
    const steps = data.bars.map(({ x, originalData }) => ({ x, step: originalData.step }));
    this.placed = smoothed(steps, steps.length > 8 ? 3 : PARTS_PER_STEP);
    this.options = options;
  }

  draw(target: Target, toY: PriceToCoordinateConverter): void {
    const options = this.options;
    if (!options || this.placed.length < 2) return;
    target.useMediaCoordinateSpace(({ context }) => {
      options.bandColors.forEach((color, index) => {
        context.fillStyle = color;
        trace(context, outline(this.placed, index), toY);
        context.fill();
      });
      context.strokeStyle = options.color;
      context.lineWidth = 2;
      context.lineJoin = "round";
      const medians = this.placed.map(({ x, step }): [number, number] => [x, step.median]);
      trace(context, medians, toY);
      context.stroke();
    });
  }
}

function trace(
  context: CanvasRenderingContext2D,
  corners: readonly [number, number][],
  toY: PriceToCoordinateConverter,
): void {
  context.beginPath();
  for (const [x, price] of corners) {
    const y = toY(price);
    if (y !== null) context.lineTo(x, y);
  }
}

export class FanSeries implements ICustomSeriesPaneView<Time, FanDatum, FanOptions> {
  private readonly painter = new FanRenderer();

  renderer(): ICustomSeriesPaneRenderer {
    return this.painter;
  }

  update(data: PaneRendererCustomData<Time, FanDatum>, options: FanOptions): void {
    this.painter.update(data, options);
  }

  /** Lowest, highest and current value: the chart scales itself so that all bands are in view. */
  priceValueBuilder({ step }: FanDatum): number[] {
    const widest = step.bands[0];
    return widest ? [widest.lower, widest.upper, step.median] : [step.median];
  }

  isWhitespace(
    datum: FanDatum | CustomSeriesWhitespaceData<Time>,
  ): datum is CustomSeriesWhitespaceData<Time> {
    return !("step" in datum);
  }

  defaultOptions(): FanOptions {
    return { ...customSeriesDefaultOptions, bandColors: [] };
  }
}
