// What the findings about bars mean, in words.
import type { QualityFinding, SymbolQuality } from "../data/client";

interface State {
  name: string;
  sign: string;
  tone: "good" | "look" | "bad";
  meaning: string;
}

interface Kind {
  name: string;
  one: string;
  meaning: string;
}

export const STATES: Record<SymbolQuality["state"], State> = {
  good: {
    name: "Good",
    sign: "✓",
    tone: "good",
    meaning: "Nothing was found that could not be true, or that one would have to look at.",
  },
  look: {
    name: "Take a look",
    sign: "!",
    tone: "look",
    meaning: "Some bars are unusual for this symbol. They may be real; compare another source.",
  },
  bad: {
    name: "Bad bars",
    sign: "✗",
    tone: "bad",
    meaning: "Some bars cannot be true. Correct them at their source and ingest them again.",
  },
};

export const KINDS: Record<QualityFinding["kind"], Kind> = {
  impossible: {
    name: "Impossible bars",
    one: "Impossible bar",
    meaning: "a price that is no positive number, or a high below a low",
  },
  impossible_action: {
    name: "Impossible actions",
    one: "Impossible action",
    meaning: "a split or dividend that cannot be true, and that prices are not adjusted for",
  },
  gap: {
    name: "Gaps",
    one: "Gap",
    meaning: "bars that the calendar lets expect and that are not there",
  },
  unadjusted_split: {
    name: "Unadjusted splits",
    one: "Unadjusted split",
    meaning: "a jump like that of a split that the prices do not account for",
  },
  outlier: {
    name: "Outliers",
    one: "Outlier",
    meaning: "a price far off that comes back at once",
  },
  stale_price: {
    name: "Stale prices",
    one: "Stale price",
    meaning: "a price that stands still for longer than is usual for this symbol",
  },
  zero_volume_run: {
    name: "Runs without volume",
    one: "Run without volume",
    meaning: "more bars in a row without volume than is usual for this symbol",
  },
  extreme_return: {
    name: "Extreme returns",
    one: "Extreme return",
    meaning: "a very large move from one bar to the next, often real",
  },
};

export const SEVERITIES: Record<QualityFinding["severity"], string> = {
  bad: "cannot be true",
  suspect: "look at it",
  note: "probably real",
};
