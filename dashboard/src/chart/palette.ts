// The chart's colours, read from the stylesheet, so that a theme is written once.

export interface Palette {
  surface: string;
  muted: string;
  line: string;
  up: string;
  down: string;
  upVolume: string;
  downVolume: string;
  fan: string;
  fanBands: readonly string[];
}

/** The palette as it holds inside `element` now; a canvas understands no CSS variables. */
export function readPalette(element: HTMLElement): Palette {
  const probe = document.createElement("i");
  probe.hidden = true;
  element.append(probe);
  const color = (name: string) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const palette: Palette = {
    surface: color("surface"),
    muted: color("muted"),
    line: color("grid"),
    up: color("up"),
    down: color("down"),
    upVolume: color("up-volume"),
    downVolume: color("down-volume"),
    fan: color("fan"),
    fanBands: [color("fan-95"), color("fan-80"), color("fan-50")],
  };
  probe.remove();
  return palette;
}
