/** HOST:PORT as people write it, checked once where it comes in. */
import { invalid } from '../core/errors.js';
import { ADDRESS_MAX_BYTES } from '../core/limits.js';

export interface HostAndPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

const FORM = /^(?:\[([0-9A-Fa-f:.]+(?:%[\w.]+)?)\]|([\w.-]+)):(\d{1,5})$/;
const HINT = 'Write HOST:PORT, with an IPv6 host in brackets: 127.0.0.1:7400 or [::1]:7400.';

/** Throws INVALID_ARGUMENT, naming what the address was for. */
export function parseAddress(text: string, what = 'address'): HostAndPort {
  const match = text.length <= ADDRESS_MAX_BYTES ? FORM.exec(text) : null;
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw invalid(`${what} "${text.slice(0, 80)}" is not HOST:PORT`, HINT);
  }
  return { host, port };
}

export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether the host means every interface, so that it says nothing about where to connect. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || /^[0:]+$/.test(host);
}
