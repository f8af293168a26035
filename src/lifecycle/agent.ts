/**
 * The agent's side of agent-protocol.ts: does what is asked in the machine's own mount namespace.
 * It holds no state, so that it may be killed and started anew at any moment.
 */
import type { z } from 'zod';
import { asFault } from '../core/errors.js';
import {
  AGENT_CALLS,
  type AgentCall,
  answerOf,
  bindBody,
  directoryBody,
  faultAnswerOf,
  growBody,
  mountBody,
  type PortableLocation,
  parseBody,
  pathBody,
  pathOf,
  unmountBody,
  volumeBody,
} from './agent-protocol.js';
import type { MachineVolumes } from './machine.js';
import type { MachineMountRequest, MountLocation } from './volume-types.js';

export interface AgentDeps {
  readonly machine: MachineVolumes;
  /** Keeps secret and files where this machine's daemons can read them, and says where. */
  readonly settle: (location: PortableLocation) => MountLocation;
  /** What `about` answers, for people. */
  readonly about: () => object;
}

export interface AgentAnswer {
  readonly status: number;
  readonly body: string;
}

const OK = 200;
const UNKNOWN = 404;
const FAULT = 500;

export class Agent {
  readonly #deps: AgentDeps;

  constructor(deps: AgentDeps) {
    this.#deps = deps;
  }

  /** Never rejects but for bugs. */
  async answer(path: string, body: string): Promise<AgentAnswer> {
    const call = AGENT_CALLS.find((one) => pathOf(one) === path);
    if (call === undefined) return { status: UNKNOWN, body: answerOf(null) };
    try {
      return { status: OK, body: answerOf(await this.#do(call, body)) };
    } catch (thrown) {
      return { status: FAULT, body: faultAnswerOf(asFault(thrown, 'UNAVAILABLE')) };
    }
  }

  #do(call: AgentCall, body: string): Promise<unknown> {
    const { machine } = this.#deps;
    switch (call) {
      case 'about':
        return Promise.resolve(this.#deps.about());
      case 'list':
        return machine.list();
      case 'mount': {
        const wanted = parseBody(directoryBody, body);
        return machine.mount(this.#request(wanted), wanted.directory);
      }
      case 'openDevice':
        return machine.openDevice(this.#request(parseBody(mountBody, body)));
      case 'unmount': {
        const { directory, ...options } = parseBody(unmountBody, body);
        return machine.unmount(directory, options);
      }
      case 'closeDevice':
        return machine.closeDevice(parseBody(volumeBody, body).volume);
      case 'bind':
        return machine.bind(parseBody(bindBody, body));
      case 'unbind':
        return machine.unbind(parseBody(pathBody, body).path);
      case 'grow': {
        const { volume, sizeBytes } = parseBody(growBody, body);
        return machine.grow(volume, sizeBytes);
      }
      default:
        return machine.stats(parseBody(pathBody, body).path);
    }
  }

  #request(wanted: z.output<typeof mountBody>): MachineMountRequest {
    const { request, machine, location } = wanted;
    return { ...request, machine, location: this.#deps.settle(location) };
  }
}
