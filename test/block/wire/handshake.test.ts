/** The handshake as transcripts: who says what, who is let in, and what each attack comes to. */
import { test } from 'tap';
import {
  HandshakeClient,
  type HandshakeClientOptions,
  HandshakeServer,
  type HandshakeServerOptions,
  type HandshakeStep,
  PROTOCOL_MAX,
} from '../../../src/block/wire/handshake.js';
import type { ClusterId, Incarnation, NodeId } from '../../../src/core/ids.js';
import { FRAME_MAX_BYTES_UNAUTHENTICATED, NODE_MAX_DISKS } from '../../../src/core/limits.js';

const cluster = 'c'.repeat(32) as ClusterId;
const node = '1'.repeat(32) as NodeId;
const other = '2'.repeat(32) as NodeId;
const disks = ['a', 'b'].map((digit) => digit.repeat(32) as Incarnation);
const credentials = { cluster, secret: Buffer.from('the secret of this cluster') };
let nonces = 0;
const nonce = (): Buffer => Buffer.alloc(32, ++nonces);

function client(options: Partial<HandshakeClientOptions> = {}): HandshakeClient {
  const id = '9'.repeat(32);
  const base = { credentials, role: 'owner', id, expectedNode: node, nonce: nonce() } as const;
  return new HandshakeClient({ ...base, ...options });
}

function server(options: Partial<HandshakeServerOptions> = {}): HandshakeServer {
  return new HandshakeServer({ credentials, node, disks, nonce: nonce(), ...options });
}

const bytes = (frame: Uint8Array): Buffer => Buffer.from(frame);

interface Transcript {
  readonly lines: string[];
  client: HandshakeStep<unknown> | null;
  server: HandshakeStep<unknown> | null;
  /** Frames as they went: hello, challenge, proof, welcome. */
  readonly frames: Buffer[];
}

type Tamper = (frame: Buffer, index: number) => Buffer;

/** Passes frames to and fro until one side is through or has failed. */
function converse(near: HandshakeClient, far: HandshakeServer, tamper?: Tamper): Transcript {
  const result: Transcript = { lines: [], client: null, server: null, frames: [] };
  let frame: Buffer | null = bytes(near.start());
  for (let index = 0; frame !== null; index++) {
    result.frames.push(frame);
    const sent: Buffer = tamper === undefined ? frame : tamper(frame, index);
    const side = index % 2 === 0 ? 'server' : 'client';
    const step: HandshakeStep<unknown> = side === 'server' ? far.step(sent) : near.step(sent);
    result[side] = step;
    const code = step.type === 'failed' ? ` ${step.error.code}` : '';
    result.lines.push(`${side}: ${step.type}${code}`);
    frame = step.send === null ? null : bytes(step.send);
  }
  return result;
}

const THROUGH = ['server: continue', 'client: continue', 'server: done', 'client: done'];

test('both prove that they know the secret and learn who the other is', async (t) => {
  const found = converse(client(), server());
  t.same(found.lines, THROUGH);
  t.match(found.client, { peer: { node, disks, version: PROTOCOL_MAX } });
  t.match(found.server, { peer: { role: 'owner', id: '9'.repeat(32), version: PROTOCOL_MAX } });
  for (const frame of found.frames) t.ok(frame.length <= FRAME_MAX_BYTES_UNAUTHENTICATED);
  const many = Array.from({ length: NODE_MAX_DISKS }, () => disks[0] as Incarnation);
  t.same(converse(client({ expectedNode: null }), server({ disks: many })).lines, THROUGH);
});

test('the bytes of the first frames never change', async (t) => {
  const versions = { min: 1, max: 1 };
  const near = client({ nonce: Buffer.alloc(32, 7), versions });
  const hello = bytes(near.start());
  const start = `484648530101000100${'c'.repeat(32)}01`;
  t.equal(hello.toString('hex'), `${start}${'9'.repeat(32)}${node}${'07'.repeat(32)}`);
  const step = server({ nonce: Buffer.alloc(32, 8) }).step(hello);
  t.ok(step.type === 'continue');
  const challenge = bytes(step.send ?? Buffer.alloc(0));
  t.equal(challenge.toString('hex'), `4846485302${'0100'}${'08'.repeat(32)}`);
});

test('each failure has a code of its own, told where that leaks nothing', async (t) => {
  const secret = Buffer.from('another secret, also long');
  const wrong = { ...credentials, secret };
  const stranger = { ...credentials, cluster: 'd'.repeat(32) as ClusterId };
  const cases: [string, Transcript, string[]][] = [
    [
      'a client with another secret',
      converse(client({ credentials: wrong }), server()),
      [
        'server: continue',
        'client: continue',
        'server: failed UNAUTHENTICATED',
        'client: failed UNAUTHENTICATED',
      ],
    ],
    [
      'a client of another cluster',
      converse(client({ credentials: stranger }), server()),
      ['server: failed WRONG_CLUSTER', 'client: failed WRONG_CLUSTER'],
    ],
    [
      'a client that means another node',
      converse(client({ expectedNode: other }), server()),
      [
        'server: continue',
        'client: continue',
        'server: failed WRONG_NODE',
        'client: failed WRONG_NODE',
      ],
    ],
    [
      'a client that is too new',
      converse(client({ versions: { min: 4, max: 5 } }), server()),
      ['server: failed VERSION', 'client: failed VERSION'],
    ],
    [
      'a client that is too old',
      converse(client(), server({ versions: { min: 4, max: 5 } })),
      ['server: failed VERSION', 'client: failed VERSION'],
    ],
  ];
  for (const [name, { lines, client: step }, expected] of cases) {
    t.same(lines, expected, name);
    t.ok(step?.type === 'failed' && step.error.hint !== undefined, `${name}: a hint`);
    const message = step?.type === 'failed' ? step.error.message : '';
    t.notMatch(message, cluster, 'the cluster id is not given away');
  }
});

test('two sides without a common version say which of them is to be upgraded', async (t) => {
  const cases = [
    [{ min: 1, max: 2 }, { min: 3, max: 4 }, 'upgrade this program', 'upgrade the peer'],
    [{ min: 3, max: 4 }, { min: 1, max: 1 }, 'upgrade the node', 'upgrade this node'],
  ] as const;
  for (const [near, far, there, here] of cases) {
    const found = converse(client({ versions: near }), server({ versions: far }));
    const said = [found.client, found.server].map((step) =>
      step?.type === 'failed' ? step.error.message : '',
    );
    t.match(said[0], new RegExp(`^the node speaks protocol .*: ${there}$`));
    t.match(said[1], new RegExp(`^the peer speaks protocol .*: ${here}$`));
  }
});

test('the newest version that both speak is chosen', async (t) => {
  const found = converse(
    client({ versions: { min: 1, max: 2 } }),
    server({ versions: { min: 2, max: 3 } }),
  );
  t.same(found.lines, THROUGH);
  t.match(found.client, { peer: { version: 2 } });
});

test('a node that does not know the secret is not believed', async (t) => {
  // It skips the check of the proof, as an impostor would, by knowing only its own secret.
  const near = client();
  const hello = bytes(near.start());
  const impostor = server({ credentials: { ...credentials, secret: Buffer.from('guess') } });
  const challenge = impostor.step(hello);
  const proof = near.step(bytes(challenge.send ?? Buffer.alloc(0)));
  t.equal(proof.type, 'continue');
  const own = client({ credentials: { ...credentials, secret: Buffer.from('guess') } });
  const welcome = converse(own, server({ credentials: { cluster, secret: Buffer.from('guess') } }));
  const made = welcome.server?.send;
  t.match(near.step(bytes(made ?? Buffer.alloc(0))), {
    type: 'failed',
    error: { code: 'UNAUTHENTICATED' },
  });
});

test('a changed frame is noticed, whatever is changed (version, identity)', async (t) => {
  const versions = { min: 1, max: 2 };
  for (const index of [0, 1, 2, 3]) {
    const length = converse(client({ versions }), server({ versions })).frames[index]?.length ?? 0;
    for (let at = 5; at < length; at++) {
      const tamper: Tamper = (frame, turn) => {
        if (turn !== index) return frame;
        const copy = Buffer.from(frame);
        copy[at] = (copy[at] as number) ^ 1;
        return copy;
      };
      const found = converse(client({ versions }), server({ versions }), tamper);
      t.notSame(found.lines, THROUGH, `frame ${index}, byte ${at}`);
    }
  }
});

test('an old proof fits no new challenge', async (t) => {
  const first = converse(client({ nonce: Buffer.alloc(32, 1) }), server());
  const [hello, challenge, proof, welcome] = first.frames as [Buffer, Buffer, Buffer, Buffer];
  const far = server();
  t.equal(far.step(hello).type, 'continue');
  t.match(far.step(proof), { type: 'failed', error: { code: 'UNAUTHENTICATED' } });
  const near = client();
  near.start();
  t.equal(near.step(challenge).type, 'continue');
  t.match(near.step(welcome), { type: 'failed', error: { code: 'UNAUTHENTICATED' } });
});

test('a proof does not serve as the other side’s (no reflection)', async (t) => {
  // The attacker lets a victim client connect to it, and hands its proof back inside a WELCOME.
  const near = client({ expectedNode: null });
  const far = server();
  const challenge = far.step(bytes(near.start()));
  const proof = bytes(near.step(bytes(challenge.send ?? Buffer.alloc(0))).send ?? Buffer.alloc(0));
  const mac = proof.subarray(5);
  const welcome = Buffer.concat([
    Buffer.from('4846485304', 'hex'),
    Buffer.from(node, 'hex'),
    Buffer.from([0]),
    mac,
  ]);
  t.match(near.step(welcome), { type: 'failed', error: { code: 'UNAUTHENTICATED' } });
  // And a client's own frames sent back to it are out of turn.
  for (const pick of ['hello', 'proof'] as const) {
    const victim = client();
    const hello = bytes(victim.start());
    const echoed = pick === 'hello' ? hello : proof;
    t.match(victim.step(echoed), { type: 'failed', error: { code: 'MALFORMED' } });
  }
});

test('frames out of turn and garbage end the handshake without a word', async (t) => {
  const whole = converse(client(), server());
  const [hello, challenge, proof, welcome] = whole.frames as [Buffer, Buffer, Buffer, Buffer];
  const large = Buffer.concat([hello, Buffer.alloc(FRAME_MAX_BYTES_UNAUTHENTICATED)]);
  for (const frame of [
    challenge,
    proof,
    welcome,
    Buffer.alloc(0),
    Buffer.from('GET / HTTP'),
    large,
  ]) {
    t.match(server().step(frame), { type: 'failed', send: null, error: { code: 'MALFORMED' } });
  }
  const far = server();
  far.step(hello);
  t.match(far.step(hello), { type: 'failed', send: null, error: { code: 'MALFORMED' } });
});

test('an empty secret is a secret like any other', async (t) => {
  const open = { cluster, secret: Buffer.alloc(0) };
  t.same(converse(client({ credentials: open }), server({ credentials: open })).lines, THROUGH);
  t.match(converse(client({ credentials: open }), server()).lines.at(-1), /UNAUTHENTICATED/);
});
