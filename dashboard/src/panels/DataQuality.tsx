// Whether the symbol's bars can be trusted: a verdict, what was found how often, and the newest.
import type { Quality, QualityFinding, SymbolQuality } from "../data/client";
import { formatCount, formatDay, formatInstant } from "../data/format";
import { useQuality } from "../data/queries";
import { ErrorNotice, Skeleton } from "../parts/Notice";
import { KINDS, SEVERITIES, STATES } from "./findings";

const SHOWN_AT_FIRST = 5;

export function DataQuality({ symbol }: { symbol: string }) {
  const query = useQuality(symbol);
  return (
    <section className="panel record" aria-labelledby="quality-title">
      <h2 id="quality-title">Data quality, {symbol}</h2>
      {query.isPending && <Skeleton label="Checking the bars" className="skeleton-record" />}
      {query.isError && (
        <ErrorNotice
          title="The bars could not be checked"
          error={query.error}
          onRetry={() => void query.refetch()}
        />
      )}
      {query.data && <Checked quality={query.data} symbol={symbol} />}
    </section>
  );
}

function Checked({ quality, symbol }: { quality: Quality; symbol: string }) {
  const found = quality.symbols[symbol];
  if (!found || found.n_bars === 0) {
    return <p className="hollow">There are no bars of {symbol} to check yet.</p>;
  }
  const state = STATES[found.state];
  return (
    <div className="quality">
      <div className={`verdict ${state.tone}`}>
        <h3>Verdict</h3>
        <p className="verdict-words">
          <span aria-hidden="true">{state.sign}</span> {state.name}
        </p>
        <p>{state.meaning}</p>
        <p className="muted small">
          {formatCount(found.n_bars)} bars of {quality.timeframe} checked.
        </p>
      </div>
      <Counts counts={found.counts} />
      <Findings found={found} />
    </div>
  );
}

function Counts({ counts }: { counts: SymbolQuality["counts"] }) {
  return (
    <div>
      <h3>Looked for</h3>
      <dl className="quality-counts">
        {Object.entries(KINDS).map(([kind, { name, meaning }]) => (
          <div key={kind} title={meaning}>
            <dt>{name}</dt>
            <dd className={counts[kind] ? undefined : "muted"}>{formatCount(counts[kind] ?? 0)}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

function Findings({ found }: { found: SymbolQuality }) {
  if (found.findings.length === 0) return null;
  const total = Object.values(found.counts).reduce((sum, count) => sum + count, 0);
  const [first, rest] = [
    found.findings.slice(0, SHOWN_AT_FIRST),
    found.findings.slice(SHOWN_AT_FIRST),
  ];
  return (
    <div>
      <h3>Newest findings</h3>
      <FindingList findings={first} />
      {rest.length > 0 && (
        <details>
          <summary>{formatCount(rest.length)} older</summary>
          <FindingList findings={rest} />
        </details>
      )}
      {total > found.findings.length && (
        <p className="muted small">
          {formatCount(total - found.findings.length)} more: <code>candlecast data check</code>
        </p>
      )}
    </div>
  );
}

function FindingList({ findings }: { findings: readonly QualityFinding[] }) {
  return (
    <ul className="findings">
      {findings.map((finding) => (
        <li key={`${finding.kind} ${finding.start} ${finding.end}`} className={finding.severity}>
          <p className="small">
            <strong>{KINDS[finding.kind].one}</strong>, {spanInWords(finding)}
            <span className="muted"> · {SEVERITIES[finding.severity]}</span>
          </p>
          <p className="muted small message">{finding.message}</p>
        </li>
      ))}
    </ul>
  );
}

function spanInWords({ start, end }: QualityFinding): string {
  const isDaily = start.endsWith("T00:00:00Z") && end.endsWith("T00:00:00Z");
  const write = isDaily ? formatDay : formatInstant;
  return start === end ? write(start) : `${write(start)} to ${write(end)}`;
}
