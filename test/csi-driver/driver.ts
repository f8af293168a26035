/** A driver over volumes in memory, served on a real socket, with its log in hand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControllerService } from '../../src/csi-driver/controller.js';
import { identityService } from '../../src/csi-driver/identity.js';
import { NodeService } from '../../src/csi-driver/node.js';
import { CsiServer } from '../../src/csi-driver/server.js';
import type { Log } from '../../src/io/log.js';
import { nodeClock } from '../../src/io/node/clock.js';
import { type Answer, Caller } from './caller.js';
import { FakeVolumes } from './fake-volumes.js';

export interface LoggedCall {
  readonly level: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export class Driver {
  readonly volumes = new FakeVolumes();
  readonly logged: LoggedCall[] = [];
  readonly granted: string[] = [];
  readonly caller: Caller;
  readonly #root = mkdtempSync(join(tmpdir(), 'hf-csi-'));
  readonly #server: CsiServer;

  private constructor(mode: 'all' | 'controller' | 'node', unpublishUnstages: boolean) {
    const endpoint = `unix://${join(this.#root, 'csi.sock')}`;
    const { volumes } = this;
    const log = (level: string) => (fields: LoggedCall['fields']) => {
      this.logged.push({ level, fields });
    };
    const record: Log = { info: log('info'), warn: log('warn'), error: log('error') };
    const grant = async (directory: string, group: number): Promise<void> => {
      this.granted.push(`${group} ${directory}`);
    };
    const place = { nodeId: 'node-1', zone: 'a', maxVolumes: 0, unpublishUnstages };
    const open = async () => volumes;
    const { machine } = volumes;
    const parts = { machine, volumes: open, groups: { grant }, clock: nodeClock };
    const node = new NodeService({ ...parts, ...place });
    const services = {
      identity: identityService('9.9'),
      controller: mode === 'node' ? undefined : new ControllerService(open),
      node: mode === 'controller' ? undefined : node,
    };
    this.#server = new CsiServer({ services, endpoint, log: record, clock: nodeClock });
    this.caller = new Caller(endpoint);
  }

  static async start(
    mode: 'all' | 'controller' | 'node' = 'all',
    { unpublishUnstages = false } = {},
  ): Promise<Driver> {
    const driver = new Driver(mode, unpublishUnstages);
    await driver.#server.start();
    return driver;
  }

  call(method: string, request: object = {}): Promise<Answer> {
    return this.caller.call(method, request);
  }

  outcome(method: string, request: object = {}): Promise<string> {
    return this.caller.outcome(method, request);
  }

  async close(): Promise<void> {
    this.caller.close();
    await this.#server.stop();
    rmSync(this.#root, { recursive: true, force: true });
  }
}
