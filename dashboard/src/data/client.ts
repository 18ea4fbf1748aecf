// Typed GET requests to the API, and its errors as exceptions.
import type { components, operations } from "../api/schema";

type Schemas = components["schemas"];
export type Chart = Schemas["Chart"];
export type ChartBar = Schemas["ChartBar"];
export type HorizonForecast = Schemas["HorizonForecast"];
export type Label = HorizonForecast["label"];
export type Report = Schemas["Report"];
export type Card = Schemas["Card"];
export type Quality = Schemas["Quality"];
export type QualityFinding = Schemas["QualityFinding"];
export type SymbolQuality = Schemas["SymbolQuality"];
export type SymbolExtent = Schemas["SymbolExtent"];
export type Symbols = Schemas["Symbols"];

type ReportQuery = NonNullable<operations["report"]["parameters"]["query"]>;

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly isRetryable: boolean,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export function fetchSymbols(signal: AbortSignal): Promise<Symbols> {
  return get<Symbols>("/api/v1/symbols", {}, signal);
}

export function fetchChart(symbol: string, limit: number, signal: AbortSignal): Promise<Chart> {
  return get<Chart>(`/api/v1/chart/${encodeURIComponent(symbol)}`, { limit: [limit] }, signal);
}

export function fetchReport(query: ReportQuery, signal: AbortSignal): Promise<Report> {
  const parameters = {
    symbol: query.symbol ?? [],
    horizon: query.horizon ? [query.horizon] : [],
    by_symbol: [query.by_symbol ?? true],
  };
  return get<Report>("/api/v1/report", parameters, signal);
}

export function fetchQuality(symbol: string, signal: AbortSignal): Promise<Quality> {
  return get<Quality>("/api/v1/quality", { symbol: [symbol] }, signal);
}

export function fetchDisclaimer(signal: AbortSignal): Promise<Schemas["Disclaimer"]> {
  return get("/api/v1/ml/disclaimer", {}, signal);
}

type Parameters = Record<string, readonly (string | number | boolean)[]>;

async function get<T>(path: string, parameters: Parameters, signal: AbortSignal): Promise<T> {
  const query = new URLSearchParams();
  for (const [name, values] of Object.entries(parameters)) {
    for (const value of values) query.append(name, String(value));
  }
  const url = query.size ? `${path}?${query}` : path;
  const response = await answer(url, signal);
  if (!response.ok) throw await errorOf(response);
  return (await response.json()) as T;
}

async function answer(url: string, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError("The server does not answer. Is `candlecast serve` running?", 0, true);
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const body: Partial<Schemas["ErrorBody"]> = await response.json().catch(() => ({}));
  const message = body.error?.message ?? `The server answered with status ${response.status}.`;
  return new ApiError(message, response.status, body.error?.is_retryable ?? false);
}
