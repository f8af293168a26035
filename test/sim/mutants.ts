/**
 * Known bugs, as changes to the compiled product's text: DESIGN §4's list, one or more for each
 * item. Each `find` must occur exactly once in its compiled file, so that a mutant cannot silently
 * stop being one. Where the product has two independent guards against the same bug, the mutant
 * removes both: one alone changes nothing that anybody can see.
 */

export interface Edit {
  /** Under dist/src. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutant {
  readonly name: string;
  readonly edits: readonly Edit[];
  /** What this bug does to somebody's data. */
  readonly why: string;
}

const ANY_INCARNATION_NODE: Edit = {
  file: 'block/storage-node.js',
  find: 'const store = this.#byIncarnation.get(request.incarnation);',
  replace:
    'const store = this.#byIncarnation.get(request.incarnation) ?? ' +
    '[...this.#byIncarnation.values()][0];',
};
const ANY_INCARNATION_OWNER: Edit = {
  file: 'replication/quorum.js',
  find: 'return reply.incarnation === replica.incarnation;',
  replace: 'return true;',
};

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'minimum instead of maximum at takeover',
    edits: [
      {
        file: 'replication/takeover-rules.js',
        find: 'Math.max(0, ...replies.map(presentLength))',
        replace: 'Math.min(...replies.map(presentLength))',
      },
    ],
    why: 'The shortest replica decides, and what the others acknowledged is cut off.',
  },
  {
    name: 'fence quorum of one',
    edits: [
      {
        file: 'replication/quorum.js',
        find: 'return replicas - ackQuorum + 1;',
        replace: 'return 1;',
      },
    ],
    why: 'The one replica that answers may be the one that missed the last acknowledgements.',
  },
  {
    name: 'counting acks of a frozen segment',
    edits: [
      {
        file: 'replication/writer.js',
        find: 'if (!countsForCommit(current.segment.segment, event.segment)) {',
        replace:
          'if (event.segment !== state.frozen?.segment && ' +
          '!countsForCommit(current.segment.segment, ' +
          'event.segment)) {',
      },
    ],
    why: 'Late answers to the segment rolled away from commit records that exist nowhere else.',
  },
  {
    name: 'trusting a wiped node: any incarnation answers a FENCE',
    edits: [
      ANY_INCARNATION_NODE,
      ANY_INCARNATION_OWNER,
      {
        file: 'block/disk-store.js',
        find: "const fences = request.type === 'fence' && engine.segments.has(request.segment);",
        replace: "const fences = request.type === 'fence';",
      },
    ],
    why: 'An empty disk says "length 0" and outvotes those that know better.',
  },
  {
    name: 'trusting a wiped node: a formatted disk keeps its name',
    edits: [
      {
        file: 'block/forming.js',
        find: 'return idFromBytes(random.bytes(16));',
        replace:
          "return idFromBytes(Buffer.from(random.seed.replace(/life[0-9]+/, '').padEnd(16, " +
          "'*').slice(-16)));",
      },
    ],
    why: 'A replaced disk answers in the name of the lost one.',
  },
  {
    name: 'an unregistered spare',
    edits: [
      {
        file: 'replication/spares.js',
        find:
          "this.#host.propose('register', (found) => registerSpare(found, { epoch, segment }), " +
          '(now) => this.registered(segment, now));',
        replace:
          "this.#host.step({ type: 'spare', segment: record.planned.find((one) => one.segment " +
          '=== segment), now: this.#context.now() });' +
          "this.#host.propose('register', (found) => registerSpare(found, { epoch, segment }), " +
          '() => {});',
      },
    ],
    why: 'The next owner does not know the segment in which records were acknowledged.',
  },
  {
    name: 'volatile fencing',
    edits: [
      {
        file: 'block/answers.js',
        find: "engine.mark(state, { type: 'fence', segment, volume, epoch }, (failure) => {",
        replace: 'engine.barrier(state, (failure) => {',
      },
    ],
    why: 'A restarted replica forgets the new owner and serves the old one.',
  },
  {
    name: 'acking across a gap: a direct write before the journaled one under it',
    edits: [
      {
        file: 'block/engine.js',
        find: "if (this.state === 'failed' || (!head.durable && head.failure === null))",
        replace:
          'if (!head.durable && head.failure === null && state.queue.some((one) => one.durable ' +
          '&& one.batches.length > 0)) { head.durable = true; }\n            if (this.state ' +
          "=== 'failed' || (!head.durable && head.failure === null))",
      },
    ],
    why: 'A hole under an acknowledged length: after a crash the prefix ends below it.',
  },
  {
    name: 'acking across a gap: GAP taken for an answer to the batch sent',
    edits: [
      {
        file: 'replication/writer.js',
        find: 'if (!noteDurable(state.current, follower, reply.durableLength)) {',
        replace:
          "if (!noteDurable(state.current, follower, reply.status === 'GAP' ? " +
          'state.current.nextOffset ' +
          ': reply.durableLength)) {',
      },
    ],
    why: 'A replica that lacks the middle counts for the end.',
  },
  {
    name: 'deleting before the swap into pendingDelete',
    edits: [
      {
        file: 'replication/upkeep-driver.js',
        find: 'for (const segment of record.pendingDelete) {',
        replace:
          'for (const segment of [...record.pendingDelete, ...record.sealed.slice(0, -2)]) {',
      },
      {
        file: 'block/confirmed.js',
        find: 'confirmations.deletable(volume, segment, revision, (answer) => {',
        replace:
          "confirmations.deletable(volume, segment, revision, (answer) => { answer = 'confirmed';",
      },
    ],
    why: 'Segments vanish that the durable record still reaches.',
  },
  {
    name: 'acking before the flush: journal',
    edits: [
      {
        file: 'block/journal.js',
        find: 'this.#options.file.datasync(alone, (error) => {',
        replace:
          'this.#options.clock.soon(() => { for (const one of this.#flying) one.written(); ' +
          '});\n        this.#options.file.datasync(alone, (error) => {',
      },
    ],
    why: 'A power loss takes what was acknowledged.',
  },
  {
    name: 'acking before the flush: direct writes',
    edits: [
      {
        file: 'block/segment-file.js',
        find: 'this.flushData(done);\n        });\n    }\n    /** Flushes data',
        replace: 'done(null);\n        });\n    }\n    /** Flushes data',
      },
    ],
    why: 'A power loss takes large writes that were acknowledged.',
  },
  {
    name: 'a lap that ends before what it holds is with the files',
    edits: [
      {
        file: 'block/engine.js',
        find: 'this.#whenEntered(encode);',
        replace: 'encode();',
      },
    ],
    why: 'A batch behind a direct write is acknowledged while no lap and no file has it.',
  },
  {
    name: 'a FENCE overtaking a flush',
    edits: [
      {
        file: 'block/answers.js',
        find: "engine.mark(state, { type: 'fence', segment, volume, epoch }, (failure) => {",
        replace:
          'queueMicrotask(() => { const fence = state.queue.pop(); if (fence) ' +
          'state.queue.unshift(fence); ' +
          '});\n' +
          "    engine.mark(state, { type: 'fence', segment, volume, epoch }, (failure) => {",
      },
      {
        file: 'block/writes.js',
        find:
          '        if (state.maxEpoch > epoch)\n            return replies.send(reply, ' +
          "'STALE', state);\n        promise(task, state, epoch);",
        replace: '        promise(task, state, epoch);',
      },
    ],
    why: 'The taker hears a length, and more is acknowledged below it a moment later.',
  },
  {
    name: 'incarnation not checked on CREATE, APPEND and PING',
    edits: [
      ANY_INCARNATION_NODE,
      ANY_INCARNATION_OWNER,
      {
        file: 'block/disk-store.js',
        find: 'if (request.incarnation !== engine.incarnation) {',
        replace:
          "if (request.incarnation !== engine.incarnation && !['create', 'append', " +
          "'ping'].includes(request.type)) " +
          '{',
      },
    ],
    why: 'A wiped disk counts towards the quorum for bytes that it never had.',
  },
  {
    name: 'reads under a lapsed lease',
    edits: [
      {
        file: 'replication/lease.js',
        find: 'return state.segment !== null && now < state.validUntil;',
        replace: 'return state.segment !== null && state.validUntil > 0;',
      },
    ],
    why: 'A paused owner wakes up and serves what a newer one has overwritten.',
  },
  {
    name: 'reads under the lease of a frozen segment',
    edits: [
      {
        file: 'replication/lease.js',
        find: "case 'current':\n            state.segment = event.segment;",
        replace:
          "case 'current':\n            if (state.segment !== null && event.segment !== " +
          'null) return [];\n            state.segment = event.segment;',
      },
      {
        file: 'replication/service.js',
        find:
          'const { segment } = this.#writer.current;\n                assert(segment.segment ' +
          "=== effect.segment, 'the lease is on the current segment');",
        replace:
          'const r = this.#record(); const segment = [...r.open, ...r.sealed].find((one) ' +
          '=> one.segment === effect.segment) ?? this.#writer.current.segment;',
      },
    ],
    why: 'Nobody fences the frozen segment, so its grants hold no taker back.',
  },
  {
    name: 'a FENCE answered while a read lease runs',
    edits: [
      {
        file: 'block/answers.js',
        find: 'const wait = deadline - engine.clock.monotonic();',
        replace: 'const wait = 0;',
      },
    ],
    why: 'A new owner acknowledges while the old one still serves reads.',
  },
  {
    name: 'a restarted node that forgets its read-lease promises',
    edits: [
      {
        file: 'block/answers.js',
        find: 'const before = startedAt + limits.readLeaseMs;',
        replace: 'const before = startedAt;',
      },
    ],
    why: 'The promise of its former life is broken by a quick restart.',
  },
  {
    name: 'an unreadable header taken for absent',
    edits: [
      {
        file: 'replication/takeover-rules.js',
        find: 'return replies.every((fenced) => fenced.durableLength === 0);',
        replace: 'return replies.every((fenced) => fenced.header === null);',
      },
    ],
    why: 'A segment with acknowledged records is abandoned because a disk had a bad moment.',
  },
  {
    name: 'a suspect tail taken for a negative',
    edits: [
      {
        file: 'replication/takeover-rules.js',
        find: 'return fenced.suspectFrom === null;',
        replace: 'return true;',
      },
    ],
    why: 'A replica that lost its tail decides that there was none.',
  },
  {
    name: 'SEAL without a confirmation',
    edits: [
      {
        file: 'block/confirmed.js',
        find: 'confirmations.sealed(volume, segment, end, crc, (answer) => {',
        replace:
          "confirmations.sealed(volume, segment, end, crc, (answer) => { answer = 'confirmed';",
      },
      {
        file: 'replication/service.js',
        find: 'this.#rollPending = effect.sealed;',
        replace:
          'this.#rollPending = effect.sealed; { const r = this.#record(); const s = ' +
          'r.open.find((one) ' +
          '=> one.segment === effect.sealed.segment); if (s) this.#upkeep.adopt({ ...r, ' +
          'sealed: [{ ...s, ...effect.sealed }], pendingDelete: [] }, 1, now()); function ' +
          'now() { return 1; } }',
      },
    ],
    why: 'A replica is cut at an end that no swap has made true.',
  },
  {
    name: 'found bytes reported before they are flushed',
    edits: [
      {
        file: 'block/opening.js',
        find: 'this.#files.settleAll((error) => this.#then(error, () => {',
        replace: '((next) => next(null))((error) => this.#then(error, () => {',
      },
    ],
    why: 'A killed program finds its page cache, reports it, and a power loss takes it away.',
  },
  {
    name: 'a swap that compares the head alone',
    edits: [
      {
        file: 'metadata/stored-volume.js',
        find: 'compare.push({ key, modRevision: was?.modRevision ?? revision(0) });',
        replace: '',
      },
    ],
    why: 'The owner undoes what repair wrote into a chunk, and reads from disks without a copy.',
  },
  {
    name: 'head and chunks of different moments',
    edits: [
      {
        file: 'metadata/stored-volume.js',
        find: 'if (entry.modRevision > at)',
        replace: 'if (entry.modRevision < 0)',
      },
    ],
    why: 'A segment that a swap has just sealed is neither open nor sealed for who reads then.',
  },
  {
    name: 'repair: the list names a copy before it is made',
    edits: [
      {
        file: 'replication/repair.js',
        find: 'const status = await this.#fetch(of, to);',
        replace: "const status = 'OK'; void this.#fetch(of, to);",
      },
    ],
    why: 'The old copy is dropped, and the new one may never be whole.',
  },
  {
    name: 'repair: a copy of what is deleted meanwhile',
    edits: [
      {
        file: 'block/copy.js',
        find: 'confirmations.copyable(request, (answer) => {',
        replace: "confirmations.copyable(request, (answer) => { answer = 'confirmed';",
      },
      {
        file: 'block/copy.js',
        find: 'if (found !== undefined && found.removals !== removals) {',
        replace: 'if (false) {',
      },
      {
        file: 'replication/repair.js',
        find: "if (state === 'good' || state === 'leaving')",
        replace: "if (isAlive && (state === 'good' || state === 'leaving'))",
      },
      {
        file: 'replication/repair.js',
        find: 'else if (this.#survey.isLost(replica, state))',
        replace: 'else if (!isAlive || this.#survey.isLost(replica, state))',
      },
    ],
    why: 'What was deleted comes back where it was being copied, and nobody knows of it.',
  },
  {
    name: 'repair: counting the copy of a wiped disk',
    edits: [
      {
        file: 'replication/repair-survey.js',
        find: 'if (isRegistered && directory.isLive(node)',
        replace: 'if (directory.isLive(node)',
      },
    ],
    why: 'A node that lost its disk seems to have what it had, and nothing is repaired.',
  },
  {
    name: 'repair: DROP without a confirmation, of a replica that counts',
    edits: [
      {
        file: 'block/confirmed.js',
        find: 'confirmations.droppable(volume, segment, incarnation, (answer) => {',
        replace:
          'confirmations.droppable(volume, segment, incarnation, (answer) => { ' +
          "answer = 'confirmed';",
      },
      {
        file: 'replication/repair.js',
        find: 'if (this.#running.has(move.segment))',
        replace: 'if (false)',
      },
      {
        file: 'replication/repair.js',
        find: 'const isAlive = !this.#survey.isOver(move.volume, move.segment);',
        replace: 'const isAlive = false;',
      },
    ],
    why: 'What is being copied, and then named, is removed by a late order.',
  },
  {
    name: 'repair: DROP without a look at the copies that are listed',
    edits: [
      {
        file: 'replication/repair.js',
        find: 'if (!(await this.#isSpare(volume, segment)) || this.#stopped)',
        replace: 'if (this.#stopped)',
      },
    ],
    why: 'A copy that was replaced may be the last whole one.',
  },
];
