/** /metrics, /health and /ready of a node, on a port of their own. */
import type { Address } from '../io/network.js';
import { type HttpAnswer, type HttpService, NOT_FOUND, serveHttp } from '../io/node/http.js';
import { watchVitals } from '../io/node/process.js';
import type { NodeNumbers } from './metrics.js';

/** Above it the process is alive but of no use. */
const LAG_MAX_MS = 5_000;

export interface MonitorOptions extends Omit<NodeNumbers, 'vitals'> {
  /** Why the node should not be relied on yet; empty when all is well. */
  readonly troubles: () => readonly string[];
}

export async function startMonitor(
  address: Address,
  options: MonitorOptions,
): Promise<HttpService> {
  const vitals = watchVitals();
  let metrics: ReturnType<typeof import('./metrics.js').createMetrics> | null = null;
  const answer = async (path: string): Promise<HttpAnswer> => {
    switch (path) {
      case '/metrics': {
        if (metrics === null) {
          const { createMetrics } = await import('./metrics.js');
          metrics = createMetrics({ ...options, vitals: () => vitals.read() });
        }
        return { status: 200, contentType: metrics.contentType, body: await metrics.read() };
      }
      case '/health': {
        const { lagMs } = vitals.read();
        const reasons = lagMs > LAG_MAX_MS ? [`the event loop stood still for ${lagMs} ms`] : [];
        return verdict(reasons, { eventLoopLagMs: Math.round(lagMs) });
      }
      case '/ready':
        return verdict(options.troubles(), {});
      default:
        return NOT_FOUND;
    }
  };
  const service = await serveHttp(address, answer);
  const close = (): void => {
    service.close();
    vitals.close();
  };
  return { address: service.address, close };
}

function verdict(reasons: readonly string[], more: Readonly<Record<string, unknown>>): HttpAnswer {
  const isOk = reasons.length === 0;
  return {
    status: isOk ? 200 : 503,
    contentType: 'application/json',
    body: `${JSON.stringify({ ok: isOk, reasons, ...more })}\n`,
  };
}
