/** What every Network promises (src/io/network.ts), over a healthy wire. */
import { type Test, test } from 'tap';
import type { HoldfastError } from '../../src/core/errors.js';
import { CONNECTION_MAX_QUEUED_BYTES, FRAME_MAX_BYTES } from '../../src/core/limits.js';
import type { Connection, Listener, Network } from '../../src/io/network.js';
import { type Harness, outcome } from './harness.js';

export interface NetworkUnderTest {
  readonly network: Network;
  /** An address of this machine with port 0. */
  readonly anyPort: string;
  /** An address of this machine where nobody listens. */
  readonly nobody: string;
}

/** One end of a connection and everything that happened to it. */
class Side {
  readonly connection: Connection;
  readonly frames: Buffer[] = [];
  drains = 0;
  closed: { error: HoldfastError | null } | null = null;

  constructor(connection: Connection) {
    this.connection = connection;
    connection.handle({
      onFrame: (frame) => this.frames.push(frame),
      onDrain: () => {
        this.drains += 1;
      },
      onClose: (error) => {
        if (this.closed !== null) throw new Error('closed twice');
        this.closed = { error };
      },
    });
  }
}

type Until = Pick<Harness<unknown>, 'until'>;

async function listen(harness: Until, under: NetworkUnderTest, sides: Side[]): Promise<Listener> {
  const [error, listener] = await outcome(
    harness,
    (done: (error: HoldfastError | null, listener: Listener | null) => void) =>
      under.network.listen(under.anyPort, (connection) => sides.push(new Side(connection)), done),
  );
  if (listener === null) throw error;
  return listener;
}

async function connect(harness: Until, under: NetworkUnderTest, address: string): Promise<Side> {
  let side: Side | null = null;
  let failure: HoldfastError | null = null;
  under.network.connect(address, 2_000, (error, connection) => {
    failure = error;
    if (connection !== null) side = new Side(connection);
  });
  await harness.until(() => side !== null || failure !== null);
  if (side === null) throw failure;
  return side;
}

export function networkContract(name: string, harness: Harness<NetworkUnderTest>): void {
  const pairTest = (
    title: string,
    body: (t: Test, near: Side, far: Side) => Promise<void>,
  ): void => {
    test(`${name}: ${title}`, async (t) => {
      const { subject, close } = await harness.make();
      const accepted: Side[] = [];
      const listener = await listen(harness, subject, accepted);
      const near = await connect(harness, subject, listener.address);
      await harness.until(() => accepted.length === 1);
      const far = accepted[0] as Side;
      for (const side of [near, far]) side.connection.setMaxFrameBytes(FRAME_MAX_BYTES);
      await body(t, near, far);
      near.connection.close(true);
      far.connection.close(true);
      listener.close();
      await harness.until(() => near.closed !== null && far.closed !== null);
      await close();
    });
  };

  pairTest('frames arrive whole, in order, both ways', async (t, near, far) => {
    for (let i = 0; i < 100; i++) {
      near.connection.send([Buffer.from(`n${i}`), Buffer.from('-'), Buffer.alloc(i * 100)]);
      far.connection.send([Buffer.from(`f${i}`)]);
    }
    near.connection.send([]);
    await harness.until(() => far.frames.length === 101 && near.frames.length === 100);
    for (let i = 0; i < 100; i++) {
      t.equal(far.frames[i]?.length, `n${i}-`.length + i * 100);
      t.equal(far.frames[i]?.toString('latin1', 0, `n${i}-`.length), `n${i}-`);
      t.equal(near.frames[i]?.toString('latin1'), `f${i}`);
    }
    t.equal(far.frames[100]?.length, 0, 'an empty frame is a frame');
  });

  pairTest('a frame of the largest size passes', async (t, near, far) => {
    const large = Buffer.alloc(FRAME_MAX_BYTES, 7);
    near.connection.send([large]);
    await harness.until(() => far.frames.length === 1);
    t.ok(far.frames[0]?.equals(large));
  });

  pairTest('a frame above the limit ends the connection', async (t, near, far) => {
    far.connection.setMaxFrameBytes(100);
    near.connection.send([Buffer.alloc(100)]);
    near.connection.send([Buffer.alloc(101)]);
    await harness.until(() => far.closed !== null && near.closed !== null);
    t.equal(far.frames.length, 1);
    t.equal(far.closed?.error?.code, 'MALFORMED');
  });

  pairTest('close delivers what was sent before, then ends both', async (t, near, far) => {
    for (let i = 0; i < 10; i++) near.connection.send([Buffer.alloc(1000, i)]);
    near.connection.close();
    near.connection.close();
    t.equal(near.closed, null, 'not inside the call');
    await harness.until(() => near.closed !== null && far.closed !== null);
    t.equal(far.frames.length, 10);
    t.equal(near.closed?.error ?? null, null);
    t.equal(far.closed?.error ?? null, null);
    t.ok(near.connection.send([Buffer.alloc(1)]), 'a no-op after close');
  });

  pairTest('a paused receiver holds frames back until it resumes', async (t, near, far) => {
    far.connection.pause(true);
    near.connection.send([Buffer.from('held')]);
    far.connection.send([Buffer.from('ping')]);
    await harness.until(() => near.frames.length === 1);
    t.equal(far.frames.length, 0);
    far.connection.pause(false);
    await harness.until(() => far.frames.length === 1);
    t.equal(far.frames[0]?.toString(), 'held');
  });

  pairTest('small frames that the peer takes late arrive as they were', async (t, near, far) => {
    far.connection.pause(true);
    const [count, turns] = [30, 100];
    const frame = (turn: number, i: number): Buffer => Buffer.alloc(5_000, `${turn} ${i};`);
    for (let turn = 0; turn < turns; turn++) {
      for (let i = 0; i < count; i++) near.connection.send([frame(turn, i)]);
      far.connection.send([Buffer.from('a turn')]);
      await harness.until(() => near.frames.length > turn);
    }
    far.connection.pause(false);
    await harness.until(() => far.frames.length === count * turns);
    const wrong = far.frames.findIndex((got, at) => {
      return !got.equals(frame(Math.floor(at / count), at % count));
    });
    t.equal(wrong, -1);
  });

  pairTest('a full queue is told, and that it has drained', async (t, near, far) => {
    far.connection.pause(true);
    const chunk = Buffer.alloc(1024 * 1024);
    let sent = 0;
    let room = true;
    while (room && sent * chunk.length < CONNECTION_MAX_QUEUED_BYTES * 8) {
      room = near.connection.send([chunk]);
      sent += 1;
    }
    t.equal(room, false);
    t.equal(near.drains, 0);
    far.connection.pause(false);
    await harness.until(() => near.drains > 0 && far.frames.length === sent);
    t.equal(near.drains, 1);
  });

  test(`${name}: connecting where nobody listens fails`, async (t) => {
    const { subject, close } = await harness.make();
    const [error, connection] = await outcome(
      harness,
      (done: (error: HoldfastError | null, connection: Connection | null) => void) =>
        subject.network.connect(subject.nobody, 2_000, done),
    );
    t.equal(connection, null);
    t.match(error?.code, /^(UNAVAILABLE|TIMEOUT)$/);
    t.equal(error?.retryable, true);
    await close();
  });

  test(`${name}: an address is listened on once, and free after close`, async (t) => {
    const { subject, close } = await harness.make();
    const accepted: Side[] = [];
    const listener = await listen(harness, subject, accepted);
    const [error] = await outcome(
      harness,
      (done: (error: HoldfastError | null, listener: Listener | null) => void) =>
        subject.network.listen(listener.address, () => {}, done),
    );
    t.equal(error?.code, 'ADDRESS_IN_USE');
    const near = await connect(harness, subject, listener.address);
    listener.close();
    near.connection.send([Buffer.from('still open')]);
    await harness.until(() => accepted[0]?.frames.length === 1);
    near.connection.close();
    await harness.until(() => near.closed !== null && accepted[0]?.closed !== null);
    await close();
  });
}
