// The fan as a table: for screen readers, and for everyone who wants the numbers.
import type { HorizonForecast } from "../data/client";
import { formatDay, formatInstant, formatPercent, formatPrice } from "../data/format";

interface Props {
  forecast: HorizonForecast;
  currency: string;
  isDaily: boolean;
}

export function PointsTable({ forecast, currency, isDaily }: Props) {
  const price = (value: number | undefined) => formatPrice(value, currency);
  return (
    <details className="points">
      <summary>The forecast as a table</summary>
      <div className="table-scroll">
        <table>
          <caption className="visually-hidden">
            Median and bands of the price at each step of the {forecast.horizon} forecast
          </caption>
          <thead>
            <tr>
              <th scope="col">{isDaily ? "Session" : "Bar from"}</th>
              <th scope="col">Median</th>
              {forecast.bands.map(({ level }) => (
                <th scope="col" key={level}>
                  {formatPercent(level)} band
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {forecast.points.map((point, index) => (
              <tr key={point.ts}>
                <th scope="row">{isDaily ? formatDay(point.ts) : formatInstant(point.ts)}</th>
                <td>{price(point.value)}</td>
                {forecast.bands.map(({ level, points }) => (
                  <td key={level}>
                    {price(points[index]?.lower)} – {price(points[index]?.upper)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
