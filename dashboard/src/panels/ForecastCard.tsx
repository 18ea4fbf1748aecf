// The report card of one forecast: what it says, how sure it is, when and by which model.
import type { ReactNode } from "react";

import type { HorizonForecast } from "../data/client";
import {
  formatAge,
  formatDay,
  formatInstant,
  formatPercent,
  formatPrice,
  formatSigned,
  horizonInWords,
} from "../data/format";
import { Badge } from "../parts/Badge";
import { Meter } from "../parts/Gauge";

interface Props {
  symbol: string;
  forecast: HorizonForecast | undefined;
  currency: string;
}

export function ForecastCard({ symbol, forecast, currency }: Props) {
  if (!forecast) {
    return (
      <section className="panel card" aria-labelledby="card-title">
        <h2 id="card-title">Forecast</h2>
        <p className="hollow">
          There is no forecast of {symbol} yet. Make one with <code>candlecast forecast</code>.
        </p>
      </section>
    );
  }
  const { label, confidence, threshold, prob_up: probUp } = forecast;
  const isScaled = threshold.rule === "scaled";
  const tone = label.toLowerCase() as "bullish" | "neutral" | "bearish";
  return (
    <section className="panel card" aria-labelledby="card-title">
      <div className="card-head">
        <div>
          <h2 id="card-title">{horizonInWords(forecast.horizon)} ahead</h2>
          <p className="muted small">to the close of {formatDay(forecast.end_at)}</p>
        </div>
        <Badge label={label} />
      </div>
      <Meter
        label="Confidence"
        value={confidence}
        tone={tone}
        mark={isScaled ? { at: 1 / 3, label: "one third: no skill" } : undefined}
      />
      <Classes forecast={forecast} />
      <Meter
        label="P(up)"
        value={probUp}
        mark={{ at: 0.5, label: "even chance" }}
      />
      <Figures forecast={forecast} currency={currency} />
      <Threshold forecast={forecast} isScaled={isScaled} />
      <Origin forecast={forecast} />
    </section>
  );
}

function Classes({ forecast }: { forecast: HorizonForecast }) {
  const { probabilities } = forecast;
  const classes = ["Bearish", "Neutral", "Bullish"] as const;
  return (
    <div className="classes">
      <div className="classes-bar" aria-hidden="true">
        {classes.map((name) => (
          <span
            key={name}
            className={name.toLowerCase()}
            style={{ flexGrow: probabilities[name] }}
          />
        ))}
      </div>
      <dl className="classes-key">
        {classes.map((name) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{formatPercent(probabilities[name])}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

function Figures({ forecast, currency }: { forecast: HorizonForecast; currency: string }) {
  const end = forecast.points.at(-1);
  const change = forecast.predicted_price / forecast.last_close - 1;
  const { action, position_size: size } = forecast;
  const share = formatPercent(Math.abs(size), 1);
  return (
    <dl className="figures">
      <Figure name="Median price">
        {formatPrice(forecast.predicted_price, currency)}{" "}
        <span className="muted">{formatSigned(change)}</span>
      </Figure>
      <Figure name={`${formatPercent(forecast.level)} band`}>
        {formatPrice(end?.lower, currency)} – {formatPrice(end?.upper, currency)}
      </Figure>
      <Figure name="Value at risk, 95%">{formatSigned(-forecast.value_at_risk_95)}</Figure>
      <Figure name="Expected shortfall, 95%">
        {formatSigned(-forecast.expected_shortfall_95)}
      </Figure>
      <Figure name="Action by rule">
        <span className="action">{action}</span>
        {action !== "hold" && <span className="muted"> {share} of capital</span>}
      </Figure>
    </dl>
  );
}

function Figure({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Threshold({ forecast, isScaled }: { forecast: HorizonForecast; isScaled: boolean }) {
  const { lower, upper, rule } = forecast.threshold;
  return (
    <div className="explain">
      <p>
        <strong>Bullish</strong> means above {formatSigned(upper, 2)}, <strong>Bearish</strong>{" "}
        below {formatSigned(lower, 2)}, <strong>Neutral</strong> between them.
      </p>
      {isScaled ? (
        <p>
          Threshold <code>{rule}</code>: the terciles of this symbol’s own past returns, so each
          class came true about one time in three. A confidence near one third therefore means{" "}
          <strong>no skill</strong> in telling them apart.
        </p>
      ) : (
        <p>
          Threshold <code>{rule}</code>: the same for every symbol, so a calm one is Neutral most of
          the time whatever the model knows.
        </p>
      )}
    </div>
  );
}

function Origin({ forecast }: { forecast: HorizonForecast }) {
  return (
    <dl className="origin">
      <Figure name="Data up to">{formatInstant(forecast.as_of)}</Figure>
      <Figure name="Age">
        {formatAge(forecast.age_seconds)}{" "}
        <span className={`state ${forecast.state}`}>{forecast.state}</span>
      </Figure>
      <Figure name="Made at">{formatInstant(forecast.run_at)}</Figure>
      <Figure name="Model">
        <code>{forecast.model_version}</code>
      </Figure>
    </dl>
  );
}
