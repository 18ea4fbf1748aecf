// The disclaimer, and whose work the chart is.
import { useDisclaimer } from "../data/queries";

export function Footer() {
  const { data } = useDisclaimer();
  return (
    <footer className="footer">
      <p>{data?.disclaimer}</p>
      <p>
        Charts by{" "}
        <a href="https://www.tradingview.com/" target="_blank" rel="noreferrer">
          TradingView Lightweight Charts™
        </a>
        , © TradingView, Inc. · <a href="/licenses.txt">Licences</a> ·{" "}
        <a href="/api/v1/openapi.json">API</a>
      </p>
    </footer>
  );
}
