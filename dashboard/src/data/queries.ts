// What the page asks the API for, cached and refreshed by TanStack Query.
import { QueryClient, useQuery } from "@tanstack/react-query";

import {
  ApiError,
  type Chart,
  fetchChart,
  fetchDisclaimer,
  fetchQuality,
  fetchReport,
  fetchSymbols,
} from "./client";

const REFRESH_MS = 60_000;
const BARS_SHOWN = 1_260; // five years of daily bars

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: REFRESH_MS / 2,
      retry: (failures, error) => failures < 2 && error instanceof ApiError && error.isRetryable,
      refetchOnWindowFocus: false,
    },
  },
});

export function useSymbols() {
  return useQuery({ queryKey: ["symbols"], queryFn: ({ signal }) => fetchSymbols(signal) });
}

export function useChart(symbol: string | null) {
  return useQuery({
    queryKey: ["chart", symbol],
    queryFn: ({ signal }) => fetchChart(symbol ?? "", BARS_SHOWN, signal),
    enabled: symbol !== null,
    // A clock that stands still brings nothing new.
    refetchInterval: (query) => (isStill(query.state.data) ? false : REFRESH_MS),
  });
}

export function useReport(symbol: string | null, horizon: string | null) {
  const query = symbol === null ? { by_symbol: false } : { symbol: [symbol], by_symbol: false };
  return useQuery({
    queryKey: ["report", symbol, horizon],
    queryFn: ({ signal }) => fetchReport({ ...query, horizon }, signal),
    enabled: horizon !== null,
  });
}

export function useQuality(symbol: string) {
  return useQuery({
    queryKey: ["quality", symbol],
    queryFn: ({ signal }) => fetchQuality(symbol, signal),
    staleTime: 10 * REFRESH_MS,
  });
}

export function useDisclaimer() {
  return useQuery({
    queryKey: ["disclaimer"],
    queryFn: ({ signal }) => fetchDisclaimer(signal),
    staleTime: Number.POSITIVE_INFINITY,
  });
}

function isStill(chart: Chart | undefined): boolean {
  return chart?.is_clock_fixed ?? false;
}
