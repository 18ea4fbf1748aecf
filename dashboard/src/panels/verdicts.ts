// What the verdicts and origins of a track record mean, in words.
import type { Card, Report } from "../data/client";

type Origin = Report["origins"][number];

export const VERDICTS: Record<Card["verdict"], { tone: "good" | "none"; meaning: string }> = {
  "no skill": {
    tone: "none",
    meaning:
      "Against climatology, the symbol’s own past returns, these forecasts have not been better " +
      "than luck would explain. Read the bands as the usual range, not as an edge.",
  },
  "skill in the distribution": {
    tone: "good",
    meaning:
      "These forecasts told how far the price may move better than its own past returns did. " +
      "They have not shown that they know which way.",
  },
  "skill in the direction": {
    tone: "good",
    meaning:
      "These forecasts told which way the price moves better than its own past did, but not how " +
      "far it may move.",
  },
  "skill in the distribution and the direction": {
    tone: "good",
    meaning:
      "These forecasts told how far and which way the price moves better than its own past " +
      "returns did.",
  },
  "too little data": {
    tone: "none",
    meaning: "Too few forecasts have been settled to tell skill from luck.",
  },
};

export const ORIGINS: Record<Origin, { name: string; meaning: string }> = {
  live: { name: "live", meaning: "made before the outcome was known" },
  walk_forward: {
    name: "walk-forward",
    meaning: "the past replayed, each forecast by a model that knew only what came before it",
  },
  simulated: { name: "simulated", meaning: "made after the fact" },
};

/** The origins of a report in a sentence, so that no one mistakes a replay for a live record. */
export function originsInWords(origins: readonly Origin[]): string {
  return origins.map((origin) => `${ORIGINS[origin].name} (${ORIGINS[origin].meaning})`).join("; ");
}
