/** An orchestrator for tests: calls a driver over its socket, and tells what came back. */
import { Client, credentials, type MethodDefinition, type ServiceError } from '@grpc/grpc-js';
import { type ServiceName, serviceDefinition } from '../../src/csi-driver/definition.js';
import { StatusCode } from '../../src/csi-driver/errors.js';

const CALL_MS = 120_000;
const NAMES = new Map<number, string>(
  Object.entries(StatusCode).map(([name, code]) => [code, name]),
);

/** A field of an answer may be of any shape; tests look at what they expect. */
// biome-ignore lint/suspicious/noExplicitAny: see above
export type Answer = any;

/** What a call ended with, where it was not OK. */
export class CallFault extends Error {
  readonly status: string;

  constructor(error: ServiceError) {
    super(error.details);
    this.status = NAMES.get(error.code) ?? `code ${error.code}`;
  }
}

export class Caller {
  readonly #client: Client;

  /** `endpoint` as the driver's: unix:///PATH. */
  constructor(endpoint: string) {
    this.#client = new Client(endpoint, credentials.createInsecure());
  }

  /** By its method's name. Rejects with CallFault. */
  call(method: string, request: object = {}): Promise<Answer> {
    const { path, requestSerialize, responseDeserialize } = methodNamed(method);
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, answer?: object): void => {
        if (error === null) resolve(answer as Answer);
        else reject(new CallFault(error));
      };
      const options = { deadline: Date.now() + CALL_MS, waitForReady: true };
      this.#client.makeUnaryRequest(
        path,
        requestSerialize as (value: object) => Buffer,
        responseDeserialize as (bytes: Buffer) => object,
        request,
        options,
        done,
      );
    });
  }

  /** "OK", or the name of the status and the message: "NOT_FOUND: There is no volume x." */
  async outcome(method: string, request: object = {}): Promise<string> {
    try {
      await this.call(method, request);
      return 'OK';
    } catch (thrown) {
      if (!(thrown instanceof CallFault)) throw thrown;
      return `${thrown.status}: ${thrown.message}`;
    }
  }

  close(): void {
    this.#client.close();
  }
}

function methodNamed(name: string): MethodDefinition<object, object> {
  for (const service of ['Identity', 'Controller', 'Node'] satisfies ServiceName[]) {
    const found = serviceDefinition(service)[name];
    if (found !== undefined) return found as MethodDefinition<object, object>;
  }
  throw new Error(`the protocol has no ${name}`);
}

/** A volume as a directory, by one writer of one node. */
export const MOUNT = { mount: {}, access_mode: { mode: 1 } };
/** As a device. */
export const BLOCK = { block: {}, access_mode: { mode: 1 } };
