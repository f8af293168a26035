/** POSIX ACLs against mode bits, as acl(5) tells it. */
import { test } from 'tap';
import { applyAccessAcl, chmodAcl, inheritAcl } from '../../src/fuse/acl.js';
import { errnoOf } from '../volume/harness.js';

const NONE = 0xffff_ffff;
const OWNER = 1;
const USER = 2;
const GROUP_OWNER = 4;
const MASK = 16;
const OTHER = 32;

/** `[tag, permissions, id]` each. */
function acl(...entries: [number, number, number?][]): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2, 0);
  for (const [index, [tag, permissions, id]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + index * 8);
    value.writeUInt16LE(permissions, 6 + index * 8);
    value.writeUInt32LE(id ?? NONE, 8 + index * 8);
  }
  return value;
}

test('an ACL with named users shows its mask as the group bits', async (t) => {
  const value = acl([OWNER, 6], [USER, 7, 1000], [GROUP_OWNER, 4], [MASK, 5], [OTHER, 1]);
  t.same(applyAccessAcl(value, 0o106777), { mode: 0o106651, stored: value });
});

test('an ACL that says no more than the mode bits is not kept', async (t) => {
  const value = acl([OWNER, 6], [GROUP_OWNER, 4], [OTHER, 0]);
  t.same(applyAccessAcl(value, 0o100777), { mode: 0o100640, stored: null });
});

test('chmod changes owner, mask and other, and no named entry', async (t) => {
  const value = acl([OWNER, 6], [USER, 7, 1000], [GROUP_OWNER, 4], [MASK, 5], [OTHER, 1]);
  const after = acl([OWNER, 7], [USER, 7, 1000], [GROUP_OWNER, 4], [MASK, 0], [OTHER, 2]);
  t.same(chmodAcl(value, 0o702), after);
});

test('a new file inherits the default ACL, cut down to the mode asked for', async (t) => {
  const value = acl([OWNER, 7], [USER, 7, 1000], [GROUP_OWNER, 5], [MASK, 7], [OTHER, 5]);
  const expected = acl([OWNER, 6], [USER, 7, 1000], [GROUP_OWNER, 5], [MASK, 4], [OTHER, 4]);
  t.same(inheritAcl(value, 0o100644), { mode: 0o100644, stored: expected });
  t.same(inheritAcl(value, 0o100600).mode, 0o100600);
  const minimal = acl([OWNER, 7], [GROUP_OWNER, 5], [OTHER, 0]);
  t.same(inheritAcl(minimal, 0o102666), { mode: 0o102640, stored: null });
});

test('what is no ACL is EINVAL', async (t) => {
  const good = acl([OWNER, 6], [GROUP_OWNER, 4], [OTHER, 0]);
  const otherVersion = Buffer.from(good);
  otherVersion.writeUInt32LE(3, 0);
  const bad = [
    Buffer.alloc(0),
    Buffer.alloc(3),
    good.subarray(0, good.length - 1),
    otherVersion,
    acl([OWNER, 6], [OTHER, 0]),
    acl([OWNER, 9], [GROUP_OWNER, 4], [OTHER, 0]),
  ];
  for (const value of bad) {
    t.equal(
      errnoOf(() => applyAccessAcl(value, 0o644)),
      'EINVAL',
    );
    t.equal(
      errnoOf(() => inheritAcl(value, 0o644)),
      'EINVAL',
    );
  }
});
