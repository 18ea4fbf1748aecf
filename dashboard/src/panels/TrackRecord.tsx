// How past forecasts fared: the verdict, coverage against promise, skill against climatology.
import { type ReactNode, useState } from "react";

import type { Card, Report } from "../data/client";
import {
  formatCount,
  formatDay,
  formatPercent,
  formatSigned,
  horizonInWords,
  isKnown,
  type Maybe,
} from "../data/format";
import { useReport } from "../data/queries";
import { Choice } from "../parts/Choice";
import { axisAround, Interval } from "../parts/Gauge";
import { ErrorNotice, Skeleton } from "../parts/Notice";
import { originsInWords, VERDICTS } from "./verdicts";

type Scope = "symbol" | "all";

export function TrackRecord({ symbol, horizon }: { symbol: string; horizon: string }) {
  const [scope, setScope] = useState<Scope>("symbol");
  const query = useReport(scope === "symbol" ? symbol : null, horizon);
  return (
    <section className="panel record" aria-labelledby="record-title">
      <div className="record-head">
        <div>
          <h2 id="record-title">Track record, {horizonInWords(horizon)} ahead</h2>
          {query.data && <Summary report={query.data} />}
        </div>
        <Choice
          label="Whose track record"
          className="quiet"
          options={[
            { value: "symbol", text: symbol },
            { value: "all", text: "All symbols" },
          ]}
          chosen={scope}
          onChoose={setScope}
        />
      </div>
      {query.isPending && <Skeleton label="Loading the track record" className="skeleton-record" />}
      {query.isError && (
        <ErrorNotice
          title="The track record could not be loaded"
          error={query.error}
          onRetry={() => void query.refetch()}
        />
      )}
      {query.data && <Scores card={query.data.overall} />}
    </section>
  );
}

function Summary({ report }: { report: Report }) {
  if (report.n_settled === 0) return null;
  return (
    <p className="muted small">
      {formatCount(report.n_settled)} settled forecasts, {formatDay(report.start)} to{" "}
      {formatDay(report.end)}. Origin: {originsInWords(report.origins)}.
    </p>
  );
}

function Scores({ card }: { card: Card | null }) {
  if (!card) {
    return (
      <p className="hollow">
        No forecast of this horizon has been settled yet. <code>candlecast evaluate</code> replays
        the past, <code>candlecast settle</code> scores what has matured.
      </p>
    );
  }
  const { tone, meaning } = VERDICTS[card.verdict];
  return (
    <div className="scores">
      <div className={`verdict ${tone}`}>
        <h3>Verdict</h3>
        <p className="verdict-words">{capitalised(card.verdict)}</p>
        <p>{meaning}</p>
        <p className="muted small">
          One-sided block-bootstrap test at 1%, {formatCount(card.n)} forecasts on{" "}
          {formatCount(card.n_dates)} dates: distribution p {pValue(card.tests.distribution.p_value)}
          , direction p {pValue(card.tests.direction.p_value)}.
        </p>
      </div>
      <Coverage coverage={card.coverage} />
      <Skill card={card} />
    </div>
  );
}

function Coverage({ coverage }: { coverage: Card["coverage"] }) {
  const levels = Object.keys(coverage).sort((a, b) => Number(a) - Number(b));
  return (
    <div>
      <h3>Coverage</h3>
      <p className="muted small">How often the price ended within the band that was promised.</p>
      {levels.map((level) => (
        <div className="coverage-row" key={level}>
          <span className="coverage-name">{formatPercent(Number(level))} band</span>
          <div className="coverage-track" aria-hidden="true">
            <div
              className={`coverage-fill band-${Math.round(Number(level) * 100)}`}
              style={{ width: `${(coverage[level] ?? 0) * 100}%` }}
            />
            <div className="meter-mark" style={{ left: `${Number(level) * 100}%` }} />
          </div>
          <strong>{formatPercent(coverage[level], 1)}</strong>
        </div>
      ))}
    </div>
  );
}

function Skill({ card }: { card: Card }) {
  const skill = card.crps_skill_vs_climatology;
  const skillEnds = card.crps_skill_interval;
  const [low, high] = axisAround(0, [skill, ...(skillEnds ?? [])], 0.05);
  const [down, up] = axisAround(0.5, [card.hit_rate, ...(card.hit_rate_interval ?? [])], 0.1);
  return (
    <div>
      <h3>Skill against climatology</h3>
      <p className="muted small">Climatology: the symbol’s own past returns as the forecast.</p>
      <Score
        name="Pinball skill (CRPS)"
        value={formatSigned(skill)}
        interval={skillEnds}
        format={formatSigned}
      >
        <Interval value={skill} interval={skillEnds} from={low} to={high} reference={0} />
      </Score>
      <Score name="Brier skill of P(up)" value={formatSigned(card.brier_skill_vs_climatology)} />
      <Score
        name="Direction right"
        value={formatPercent(card.hit_rate, 1)}
        interval={card.hit_rate_interval}
        format={formatPercent}
      >
        <Interval
          value={card.hit_rate}
          interval={card.hit_rate_interval}
          from={down}
          to={up}
          reference={0.5}
        />
      </Score>
      <p className="muted small">
        A rising market lifts “direction right” above 50% without any skill, so the direction is
        tested on P(up) against climatology’s.
      </p>
    </div>
  );
}

interface ScoreProps {
  name: string;
  value: string;
  interval?: readonly [number, number] | null;
  format?: (value: Maybe, digits: number) => string;
  children?: ReactNode;
}

function Score({ name, value, interval, format = formatSigned, children }: ScoreProps) {
  return (
    <div className="score">
      <div className="meter-head">
        <span>{name}</span>
        <span>
          <strong>{value}</strong>
          {interval && (
            <span className="muted small">
              {" "}
              ({format(interval[0], 1)} to {format(interval[1], 1)})
            </span>
          )}
        </span>
      </div>
      {children}
    </div>
  );
}

function pValue(p: Maybe): string {
  if (!isKnown(p)) return "unknown";
  return p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
