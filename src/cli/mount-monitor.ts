/** What a mount daemon answers: its status, a commit, its numbers for Prometheus. */
import { asFault } from '../core/errors.js';
import { type HttpAnswer, type HttpService, NOT_FOUND, serveHttp } from '../io/node/http.js';
import { watchVitals } from '../io/node/process.js';
import { faultAnswer, okAnswer } from '../lifecycle/control.js';
import type { MountDaemon } from '../lifecycle/mount-daemon.js';
import type { LiveStatus, MountSpec } from '../lifecycle/mount-types.js';
import type { Metrics } from './metrics.js';

const JSON_TYPE = 'application/json';

type Answered = Omit<HttpAnswer, 'contentType'>;

/** Until there is a daemon that can say more. */
export interface Waiting {
  status(): LiveStatus;
  /** Resolves once there is one; rejects when there will be none. */
  readonly daemon: Promise<MountDaemon>;
}

export class MountMonitor {
  readonly #waiting: Waiting;
  #daemon: MountDaemon | null = null;
  readonly #spec: MountSpec;
  /** Only once somebody asks for numbers: measuring wakes an idle process. */
  #vitals: ReturnType<typeof watchVitals> | null = null;
  #metrics: Metrics | null = null;
  #service: HttpService | null = null;

  constructor(waiting: Waiting, spec: MountSpec) {
    this.#waiting = waiting;
    this.#spec = spec;
    void waiting.daemon.then(
      (daemon) => {
        this.#daemon = daemon;
      },
      () => {},
    );
  }

  get #status(): LiveStatus {
    return this.#daemon?.status() ?? this.#waiting.status();
  }

  /** Serves the numbers over HTTP as well, if asked to. Rejects with ADDRESS_IN_USE. */
  async listen(): Promise<void> {
    const { metricsListen } = this.#spec;
    if (metricsListen === null) return;
    const answer = (path: string): Promise<HttpAnswer> =>
      path === '/metrics' ? this.#numbers() : Promise.resolve(NOT_FOUND);
    this.#service = await serveHttp(metricsListen, answer);
  }

  /** Over the control socket (lifecycle/control.ts). */
  async answer(path: string, method: 'GET' | 'POST'): Promise<HttpAnswer> {
    switch (`${method} ${path}`) {
      case 'GET /status':
        return { contentType: JSON_TYPE, ...okAnswer(this.#status) };
      case 'POST /commit':
        return { contentType: JSON_TYPE, ...(await this.#asked((daemon) => daemon.commit())) };
      case 'POST /hand-over':
        return { contentType: JSON_TYPE, ...(await this.#asked((daemon) => daemon.handOver())) };
      case 'GET /metrics':
        return await this.#numbers();
      default:
        return NOT_FOUND;
    }
  }

  async #asked(work: (daemon: MountDaemon) => Promise<void>): Promise<Answered> {
    try {
      await work(await this.#waiting.daemon);
      return okAnswer({ lastCommit: this.#status.lastCommit });
    } catch (thrown) {
      return faultAnswer(asFault(thrown, 'UNAVAILABLE'));
    }
  }

  async #numbers(): Promise<HttpAnswer> {
    if (this.#metrics === null) {
      const { createMountMetrics } = await import('./mount-metrics.js');
      const { volume, directory } = this.#spec;
      const status = () => this.#status;
      const watched = watchVitals();
      this.#vitals = watched;
      const vitals = () => watched.read();
      this.#metrics = createMountMetrics({ volume, directory, status, vitals });
    }
    return {
      status: 200,
      contentType: this.#metrics.contentType,
      body: await this.#metrics.read(),
    };
  }

  close(): void {
    this.#service?.close();
    this.#vitals?.close();
  }
}
