// The chart's colours, read from the stylesheet, so that a theme is written once.

export interface Palette {
  surface: string;
  text: string;
  muted: string;
  line: string;
  up: string;
  down: string;
  upVolume: string;
  downVolume: string;
  fan: string;
  fanBands: readonly string[];
}

export function readPalette(element: Element): Palette {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    surface: color("surface"),
    text: color("text"),
    muted: color("muted"),
    line: color("grid"),
    up: color("up"),
    down: color("down"),
    upVolume: color("up-volume"),
    downVolume: color("down-volume"),
    fan: color("fan"),
    fanBands: [color("fan-95"), color("fan-80"), color("fan-50")],
  };
}
