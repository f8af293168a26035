/**
 * Commits by a bare program: a frame to three bare replicas on the same file system, done when two
 * have answered. What it needs beyond a local append is this machine's price of replication; what
 * Holdfast needs beyond it is Holdfast's.
 */
import { keepBusy } from '../log-load.js';
import type { Measured } from '../stats.js';
import { BareReplicas } from './replicas.js';
import { COMMIT_BYTES, FrameKind, frameHeader } from './shapes.js';

export class BareCommits {
  readonly #replicas: BareReplicas;
  readonly #frame = [frameHeader(Buffer.alloc(COMMIT_BYTES, 7), FrameKind.COMMIT, 0)];

  private constructor(replicas: BareReplicas) {
    this.#replicas = replicas;
  }

  static async start(directory: string): Promise<BareCommits> {
    return new BareCommits(await BareReplicas.start(directory));
  }

  /** One at a time. */
  run(seconds: number): Promise<Measured> {
    return keepBusy(1, seconds, () => {
      return new Promise<void>((done) => this.#replicas.ask(this.#frame, done));
    });
  }

  close(): Promise<void> {
    return this.#replicas.close();
  }
}
