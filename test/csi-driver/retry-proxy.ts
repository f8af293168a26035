/**
 * An orchestrator's patience as a proxy: passes every call on to a driver, and again while that is
 * UNAVAILABLE, as after a crash, until `patienceMs` are over. `beforeCall` and `duringCall` are for
 * tests that kill the driver.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import {
  Client,
  credentials,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type ServiceError,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { type ServiceName, serviceDefinition } from '../../src/csi-driver/definition.js';

const PAUSE_MS = 100;
const CALL_MS = 120_000;
const RETRIED: readonly number[] = [status.UNAVAILABLE, status.ABORTED, status.CANCELLED];

export interface ProxyOptions {
  readonly listen: string;
  readonly driver: string;
  readonly patienceMs: number;
  readonly beforeCall: (method: string) => Promise<void>;
  /** When a call is on its way. */
  readonly duringCall: (method: string) => void;
}

const asIs = (bytes: Buffer): Buffer => bytes;

export class RetryProxy {
  readonly #options: ProxyOptions;
  readonly #server = new Server();
  readonly #client: Client;
  calls = 0;
  retries = 0;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#client = new Client(options.driver, credentials.createInsecure(), {
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 200,
      'grpc.min_reconnect_backoff_ms': 50,
    });
    for (const name of ['Identity', 'Controller', 'Node'] satisfies ServiceName[]) this.#add(name);
  }

  #add(name: ServiceName): void {
    const definition: Record<string, ServiceDefinition[string]> = {};
    const handlers: Record<string, unknown> = {};
    for (const [method, { path }] of Object.entries(serviceDefinition(name))) {
      definition[method] = {
        ...{ path, requestStream: false, responseStream: false },
        ...{ requestSerialize: asIs, requestDeserialize: asIs },
        ...{ responseSerialize: asIs, responseDeserialize: asIs },
      };
      handlers[method] = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        this.#pass(method, path, call.request).then(
          (answer) => done(null, answer),
          ({ code, details }: ServiceError) => done({ code, details }),
        );
      };
    }
    this.#server.addService(definition, handlers as never);
  }

  async #pass(method: string, path: string, request: Buffer): Promise<Buffer> {
    const { patienceMs, beforeCall, duringCall } = this.#options;
    const deadline = Date.now() + patienceMs;
    this.calls += 1;
    await beforeCall(method);
    for (;;) {
      const answer = this.#once(path, request);
      duringCall(method);
      try {
        return await answer;
      } catch (thrown) {
        const { code } = thrown as ServiceError;
        // What is ABORTED by intention ends so: a bad token. What is under way ends in time.
        const isOver = Date.now() > deadline || method === 'ListVolumes';
        if (!RETRIED.includes(code) || (isOver && code !== status.UNAVAILABLE)) throw thrown;
        if (Date.now() > deadline) throw thrown;
        this.retries += 1;
        await sleep(PAUSE_MS);
      }
    }
  }

  #once(path: string, request: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + CALL_MS };
      this.#client.makeUnaryRequest(path, asIs, asIs, request, options, (error, answer) => {
        if (error === null) resolve(answer ?? Buffer.alloc(0));
        else reject(error);
      });
    });
  }

  start(): Promise<void> {
    const { listen } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(listen, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  }

  close(): void {
    this.#server.forceShutdown();
    this.#client.close();
  }
}
