// What stands where there is nothing to show: still loading, nothing there, or it failed.
import type { ReactNode } from "react";

export function Skeleton({ label, className }: { label: string; className: string }) {
  return (
    <div className={`skeleton ${className}`} role="status">
      <span className="visually-hidden">{label} …</span>
    </div>
  );
}

export function EmptyNotice({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="panel notice">
      <h2>{title}</h2>
      <p>{children}</p>
    </section>
  );
}

interface ErrorProps {
  title: string;
  error: Error;
  onRetry: () => void;
}

export function ErrorNotice({ title, error, onRetry }: ErrorProps) {
  return (
    <section className="panel notice" role="alert">
      <h2>{title}</h2>
      <p>{error.message}</p>
      <button type="button" className="button" onClick={onRetry}>
        Try again
      </button>
    </section>
  );
}
