/**
 * The gRPC server: the standard's services on a unix socket. Each call is logged once, when it
 * ends, with its outcome and how long it took; what it carried is not logged, since secrets may be
 * among it, but for what names the volume and where it is wanted.
 */
import {
  Server as GrpcServer,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { AssertionFailure } from '../core/assert.js';
import { HoldfastError } from '../core/errors.js';
import type { Clock } from '../io/clock.js';
import type { Log } from '../io/log.js';
import { type ServiceName, serviceDefinition } from './definition.js';
import { StatusCode, statusOf } from './errors.js';
import type { Controller, Identity, Node } from './messages.js';

/** Left out are those that this process does not offer: they are answered with UNIMPLEMENTED. */
export interface CsiServices {
  readonly identity: Identity;
  readonly controller?: Controller | undefined;
  readonly node?: Node | undefined;
}

export interface CsiServerOptions {
  readonly services: CsiServices;
  /** unix:///PATH; nobody listens there. */
  readonly endpoint: string;
  readonly log: Log;
  readonly clock: Clock;
}

type Handler = (request: object) => Promise<object>;
type Handlers = Readonly<Record<string, Handler>>;

/** Asked every few seconds for as long as a container lives: only faults are worth a line. */
const FREQUENT: ReadonlySet<string> = new Set(['Probe']);
/** What of a request stands in the log: none of it can be a secret. */
const LOGGED = ['volume_id', 'name', 'node_id', 'staging_target_path', 'target_path'] as const;
const LOGGED_MAX = 300;

export class CsiServer {
  readonly #options: CsiServerOptions;
  readonly #server = new GrpcServer();
  readonly #underway = new Set<Promise<void>>();

  constructor(options: CsiServerOptions) {
    this.#options = options;
    const { identity, controller, node } = options.services;
    this.#add('Identity', identity);
    if (controller !== undefined) this.#add('Controller', controller);
    if (node !== undefined) this.#add('Node', node);
  }

  /** Rejects with ADDRESS_IN_USE or UNAVAILABLE. */
  async start(): Promise<void> {
    const { endpoint } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(endpoint, ServerCredentials.createInsecure(), (error) => {
        if (error === null) return resolve();
        const isUsed = error.message.includes('EADDRINUSE');
        const message = `cannot listen on ${endpoint}: ${error.message}`;
        reject(new HoldfastError(isUsed ? 'ADDRESS_IN_USE' : 'UNAVAILABLE', message));
      });
    });
  }

  /** Takes no more calls, and resolves once those under way have ended. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    await Promise.allSettled(this.#underway);
    await closed;
  }

  #add(name: ServiceName, service: object): void {
    const handlers = service as Handlers;
    const implementation: Record<string, unknown> = {};
    for (const method of Object.keys(serviceDefinition(name))) {
      const handler = handlers[method]?.bind(service);
      if (handler === undefined) continue;
      implementation[method] = (
        call: ServerUnaryCall<object, object>,
        answer: sendUnaryData<object>,
      ) => {
        const done = this.#serve(method, handler, call.request, answer);
        this.#underway.add(done);
        void done.finally(() => this.#underway.delete(done));
      };
    }
    this.#server.addService(serviceDefinition(name), implementation as never);
  }

  async #serve(
    method: string,
    handler: Handler,
    request: object,
    answer: sendUnaryData<object>,
  ): Promise<void> {
    const { clock, log } = this.#options;
    const since = clock.monotonic();
    const fields = (code: string) => {
      const ms = Math.round(clock.monotonic() - since);
      return { call: method, ...loggedFields(request), code, ms };
    };
    try {
      const response = await handler(request);
      if (!FREQUENT.has(method)) log.info(fields('OK'), 'A call ended.');
      answer(null, response);
    } catch (thrown) {
      const { status, message } = statusOf(thrown);
      const stack = status === 'INTERNAL' && thrown instanceof Error ? { stack: thrown.stack } : {};
      log.warn({ ...fields(status), error: message, ...stack }, 'A call failed.');
      answer({ code: StatusCode[status], details: message });
      if (thrown instanceof AssertionFailure) this.#options.clock.soon(() => bug(thrown));
    }
  }
}

/** Ends the process as an uncaught error does: state in memory is not to be trusted after it. */
function bug(failure: AssertionFailure): never {
  throw failure;
}

function loggedFields(request: object): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const name of LOGGED) {
    const value = (request as Readonly<Record<string, unknown>>)[name];
    if (typeof value === 'string' && value !== '') fields[name] = value.slice(0, LOGGED_MAX);
  }
  return fields;
}
