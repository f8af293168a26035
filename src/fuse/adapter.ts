/**
 * Operation → calls of the Filesystem → reply. Knows POSIX rules that neither the kernel nor the
 * filesystem applies (acl.ts, creation.ts, privileges lost by writing) and which caches the kernel
 * may use; keeps no state that a restarted daemon would miss. What the filesystem may keep
 * (names, targets, values) is copied out of the request's buffer; data and the name of a lookup are
 * used within the call. Faults become errno here; bugs are thrown on and stop the process.
 */
import { present } from '../core/assert.js';
import type { HoldfastError } from '../core/errors.js';
import type { Attributes, Filesystem, FsError, Inode } from '../volume/filesystem-api.js';
import { createIn } from './creation.js';
import { ERRNO, errnoOf } from './errno.js';
import { MAX_WRITE_BYTES } from './limits.js';
import { encodeListing } from './listing.js';
import type {
  Allocate,
  CopyRange,
  Create,
  GetXattr,
  Link,
  ListXattr,
  Lookup,
  MakeDirectory,
  MakeNode,
  Open,
  Operation,
  Read,
  Rename,
  Request,
  Seek,
  SetAttributes,
  SymLink,
  TemporaryFile,
  Write,
} from './operations.js';
import {
  FallocateMode,
  Mode,
  NAME_MAX,
  O_DIRECT,
  Opcode,
  OpenFlag,
  OpenReplyFlag,
  RenameFlag,
  Whence,
} from './protocol.js';
import type { Answer, Reply } from './reply.js';
import { opensForWriting, WriteOpens } from './write-opens.js';
import {
  dropCapability,
  followChmod,
  has,
  hasPrivileges,
  listXattrs,
  removeXattr,
  setXattr,
} from './xattrs.js';

export interface AdapterOptions {
  readonly filesystem: Filesystem;
  /** Answer every change with EROFS, whatever the kernel lets through. */
  readonly readOnly: boolean;
  /** The kernel has files open that another session opened. */
  readonly adopted: boolean;
  /** A fault other than a plain errno, on its way to an application. */
  readonly onFault: (fault: HoldfastError | FsError) => void;
}

/** The 32-bit reply to COPY_FILE_RANGE; the kernel asks again for the rest. */
const COPY_MAX_BYTES = 0xffff_f000;

const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FallocateMode;
const FALLOCATE_MODES = [0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE];

export class FilesystemAdapter {
  readonly #filesystem: Filesystem;
  readonly #readOnly: boolean;
  readonly #writeOpens: WriteOpens;
  readonly #onFault: (fault: HoldfastError | FsError) => void;

  constructor(options: AdapterOptions) {
    this.#filesystem = options.filesystem;
    this.#readOnly = options.readOnly;
    this.#writeOpens = new WriteOpens(!options.adopted);
    this.#onFault = options.onFault;
  }

  /** Answers now or later. The request's buffer is not in use beyond this call. */
  handle(request: Request, reply: Reply): void {
    if (reply.isAbandoned) return;
    try {
      if (this.#readOnly && mayChange(request)) reply.error(ERRNO.EROFS);
      else if (!this.#waits(request, reply)) this.#dispatch(request, reply);
    } catch (thrown) {
      this.#fail(reply, thrown);
    }
  }

  /**
   * What must not overtake a write of the file that came before and waits for its pages. The kernel
   * sees to that while it holds the file's lock, and of asynchronous direct writes it does not.
   */
  #waits(request: Request, reply: Reply): boolean {
    const { operation, inode } = request;
    switch (operation.op) {
      case 'getattr':
      case 'setattr':
      case 'fallocate':
        return this.#delayed(inode, request, reply);
      case 'copy-range': {
        const { target } = operation;
        return this.#delayed(inode, request, reply) || this.#delayed(target, request, reply);
      }
      default:
        return false;
    }
  }

  #delayed(file: Inode, request: Request, reply: Reply): boolean {
    return this.#filesystem.delays(file, () => this.handle(request, reply));
  }

  #fail(reply: Reply, thrown: unknown): void {
    const errno = errnoOf(thrown);
    if (errno === undefined || !reply.open) throw thrown;
    if (errno === ERRNO.EIO) this.#onFault(thrown as HoldfastError | FsError);
    reply.error(errno);
  }

  /** A callback for what answers later with nothing but success or failure. */
  #whenDone(reply: Reply, succeed: () => Answer): (error: FsError | HoldfastError | null) => void {
    return (error) => {
      if (error === null) succeed();
      else this.#fail(reply, error);
    };
  }

  /** Operations on files; the others are in #dispatchNames and #dispatchRest. */
  #dispatch(request: Request, reply: Reply): Answer {
    const { operation, inode } = request;
    const filesystem = this.#filesystem;
    switch (operation.op) {
      case 'getattr':
        return reply.attributes(filesystem.getattr(inode));
      case 'lookup':
        return this.#lookup(inode, operation, reply);
      case 'read':
        return this.#read(inode, operation, reply);
      case 'write':
        return this.#write(inode, operation, reply);
      case 'open':
        filesystem.open(inode);
        this.#writeOpens.opened(inode, operation.flags);
        return reply.opened(cachePolicy(operation));
      case 'release':
        this.#writeOpens.released(inode, operation.flags);
        filesystem.close(inode);
        return reply.ok();
      case 'releasedir': // of one that a session before us has opened
        filesystem.close(inode);
        return reply.ok();
      case 'setattr':
        return reply.attributes(this.#setattr(inode, operation));
      case 'fsync':
      case 'fsyncdir':
        filesystem.fsync(
          inode,
          this.#whenDone(reply, () => reply.ok()),
        );
        return 'later';
      case 'syncfs':
        filesystem.commit(this.#whenDone(reply, () => reply.ok()));
        return 'later';
      case 'opendir':
        // Once: from then on the kernel opens directories by itself, and caches their listings.
        return reply.error(ERRNO.ENOSYS);
      case 'readdir':
        return reply.listing((out, at) => encodeListing(filesystem, inode, operation, out, at));
      case 'forget':
        filesystem.forget(inode, operation.count);
        return reply.none();
      case 'batch-forget':
        for (const { inode: each, count } of operation.forgets) filesystem.forget(each, count);
        return reply.none();
      default:
        return this.#dispatchNames(request, reply);
    }
  }

  #dispatchNames(request: Request, reply: Reply): Answer {
    const { operation, inode } = request;
    const filesystem = this.#filesystem;
    switch (operation.op) {
      case 'create':
        return this.#create(request, operation, reply);
      case 'tmpfile':
        return this.#temporaryFile(request, operation, reply);
      case 'mknod':
        return this.#makeNode(request, operation, reply);
      case 'mkdir':
        return this.#makeDirectory(request, operation, reply);
      case 'symlink':
        return this.#symlink(request, operation, reply);
      case 'link':
        return this.#link(inode, operation, reply);
      case 'rename':
        return this.#rename(inode, operation, reply);
      case 'unlink':
        if (tooLong(operation.name)) return reply.error(ERRNO.ENAMETOOLONG);
        filesystem.unlink(inode, Buffer.from(operation.name));
        return reply.ok();
      case 'rmdir':
        if (tooLong(operation.name)) return reply.error(ERRNO.ENAMETOOLONG);
        filesystem.rmdir(inode, Buffer.from(operation.name));
        return reply.ok();
      case 'readlink':
        return reply.data([filesystem.readlink(inode)]);
      default:
        return this.#dispatchRest(request, reply);
    }
  }

  #dispatchRest(request: Request, reply: Reply): Answer {
    const { operation, inode } = request;
    const filesystem = this.#filesystem;
    switch (operation.op) {
      case 'statfs':
        return reply.statfs(filesystem.statfs());
      case 'getxattr':
        return this.#getXattr(inode, operation, reply);
      case 'listxattr':
        return this.#sized(operation, listXattrs(filesystem, inode, request.caller.uid), reply);
      case 'setxattr':
        setXattr(filesystem, inode, operation);
        return reply.ok();
      case 'removexattr':
        removeXattr(filesystem, inode, operation.name);
        return reply.ok();
      case 'fallocate':
        return this.#allocate(request, operation, reply);
      case 'lseek':
        return this.#seek(inode, operation, reply);
      case 'copy-range':
        return this.#copyRange(request, operation, reply);
      case 'unsupported':
        return reply.error(operation.opcode === Opcode.IOCTL ? ERRNO.ENOTTY : ERRNO.ENOSYS);
      default:
        return reply.error(ERRNO.ENOSYS); // the session's own: init, interrupt, destroy, write
    }
  }

  /** "No such name" is an answer that the kernel may keep. */
  #lookup(parent: Inode, { name }: Lookup, reply: Reply): Answer {
    if (tooLong(name)) return reply.error(ERRNO.ENAMETOOLONG);
    const attributes = this.#filesystem.lookup(parent, name);
    return attributes === null ? reply.noEntry() : reply.entry(attributes);
  }

  #read(inode: Inode, { offset, size }: Read, reply: Reply): Answer {
    const wanted = Math.min(size, MAX_WRITE_BYTES);
    this.#filesystem.read(inode, offset, wanted, (error, parts) => {
      if (error === null) reply.data(parts);
      else this.#fail(reply, error);
    });
    return 'later';
  }

  #write(inode: Inode, operation: Write, reply: Reply): Answer {
    const { data, offset, durable } = operation;
    if (operation.killPrivileges) this.#dropPrivileges(inode);
    else if (!operation.isWriteback) dropCapability(this.#filesystem, inode);
    const { length } = data;
    const answer = this.#whenDone(reply, () => reply.count(length));
    this.#filesystem.write(inode, offset, data, (error) => {
      if (error === null && durable) this.#filesystem.fsync(inode, answer);
      else answer(error);
    });
    return 'later';
  }

  /** What the kernel does for other filesystems after a write by an ordinary user. */
  #dropPrivileges(inode: Inode): void {
    const attributes = this.#filesystem.getattr(inode);
    if (!hasPrivileges(this.#filesystem, attributes)) return;
    this.#filesystem.setattr(inode, { killPrivileges: true });
  }

  /**
   * A SETATTR that changes nothing is how the kernel asks for privileges to go, before it sends the
   * WRITE, FALLOCATE or COPY_FILE_RANGE of somebody without CAP_FSETID; its reply refreshes the
   * kernel's idea of the mode. A change of owner takes them, too.
   */
  #setattr(inode: Inode, { changes: asked }: SetAttributes): Attributes {
    if (asked.mode === undefined) {
      const kill =
        asked.killPrivileges === true ||
        asked.uid !== undefined ||
        asked.gid !== undefined ||
        Object.keys(asked).length === 0;
      return this.#filesystem.setattr(inode, kill ? { ...asked, killPrivileges: true } : asked);
    }
    const mode = asked.mode & Mode.PERMISSIONS;
    followChmod(this.#filesystem, inode, mode);
    return this.#filesystem.setattr(inode, { ...asked, mode });
  }

  /**
   * The kernel has looked the name up before and found nothing; only a name that came from
   * somewhere else meanwhile can be there, and then open(2) without O_EXCL opens it.
   */
  #create(request: Request, operation: Create, reply: Reply): Answer {
    const { inode: parent, caller } = request;
    const { flags, umask } = operation;
    if (tooLong(operation.name)) return reply.error(ERRNO.ENAMETOOLONG);
    const name = Buffer.from(operation.name);
    const wanted = { parent, name, mode: asRegular(operation.mode), umask, caller };
    let made: Attributes;
    try {
      made = createIn(this.#filesystem, wanted, (mode, owner) =>
        this.#filesystem.mknod(parent, name, mode, 0, owner),
      );
    } catch (thrown) {
      const exclusive = (flags & OpenFlag.EXCL) !== 0;
      if (errnoOf(thrown) !== ERRNO.EEXIST || exclusive) throw thrown;
      made = present(this.#filesystem.lookup(parent, name), 'what exists');
      if ((flags & OpenFlag.TRUNC) !== 0) {
        made = this.#filesystem.setattr(made.inode, { size: 0, mtime: 'now' });
      }
    }
    this.#filesystem.open(made.inode);
    this.#writeOpens.opened(made.inode, flags);
    return reply.created(made, cachePolicy(operation));
  }

  #temporaryFile(request: Request, operation: TemporaryFile, reply: Reply): Answer {
    const { inode: parent, caller } = request;
    const { umask } = operation;
    const wanted = { parent, name: null, mode: asRegular(operation.mode), umask, caller };
    const made = createIn(this.#filesystem, wanted, (mode, owner) =>
      this.#filesystem.tmpfile(parent, mode, owner),
    );
    this.#filesystem.open(made.inode);
    this.#writeOpens.opened(made.inode, operation.flags);
    return reply.created(made, cachePolicy(operation));
  }

  #makeNode(request: Request, operation: MakeNode, reply: Reply): Answer {
    const { inode: parent, caller } = request;
    const { mode: asked, rdev, umask } = operation;
    if (tooLong(operation.name)) return reply.error(ERRNO.ENAMETOOLONG);
    const name = Buffer.from(operation.name);
    const typed = (asked & Mode.TYPE) === 0 ? asRegular(asked) : asked;
    const wanted = { parent, name, mode: typed, umask, caller };
    return reply.entry(
      createIn(this.#filesystem, wanted, (mode, owner) =>
        this.#filesystem.mknod(parent, name, mode, rdev, owner),
      ),
    );
  }

  #makeDirectory(request: Request, operation: MakeDirectory, reply: Reply): Answer {
    const { inode: parent, caller } = request;
    const { umask } = operation;
    if (tooLong(operation.name)) return reply.error(ERRNO.ENAMETOOLONG);
    const name = Buffer.from(operation.name);
    const asked = (operation.mode & Mode.PERMISSIONS) | Mode.DIRECTORY;
    return reply.entry(
      createIn(this.#filesystem, { parent, name, mode: asked, umask, caller }, (mode, owner) =>
        this.#filesystem.mkdir(parent, name, mode, owner),
      ),
    );
  }

  #symlink(request: Request, operation: SymLink, reply: Reply): Answer {
    const { inode: parent, caller } = request;
    if (tooLong(operation.name)) return reply.error(ERRNO.ENAMETOOLONG);
    const name = Buffer.from(operation.name);
    const target = Buffer.from(operation.target);
    const directory = this.#filesystem.getattr(parent);
    const setgid = (directory.mode & Mode.SETGID) !== 0;
    const owner = setgid ? { uid: caller.uid, gid: directory.gid } : caller;
    return reply.entry(this.#filesystem.symlink(parent, name, target, owner));
  }

  #link(parent: Inode, { target, newName }: Link, reply: Reply): Answer {
    if (tooLong(newName)) return reply.error(ERRNO.ENAMETOOLONG);
    return reply.entry(this.#filesystem.link(target, parent, Buffer.from(newName)));
  }

  #rename(parent: Inode, operation: Rename, reply: Reply): Answer {
    const { newParent, flags } = operation;
    if (tooLong(operation.name) || tooLong(operation.newName)) {
      return reply.error(ERRNO.ENAMETOOLONG);
    }
    const name = Buffer.from(operation.name);
    const newName = Buffer.from(operation.newName);
    const known = RenameFlag.NOREPLACE | RenameFlag.EXCHANGE;
    if ((flags & ~known) !== 0 || flags === known) return reply.error(ERRNO.EINVAL);
    this.#filesystem.rename(parent, name, newParent, newName, flags);
    return reply.ok();
  }

  /**
   * The kernel asks for `security.capability` before the first write to a file and for ACLs before
   * it checks permissions, nearly always in vain: that is answered without throwing.
   */
  #getXattr(inode: Inode, operation: GetXattr, reply: Reply): Answer {
    if (!has(this.#filesystem, inode, operation.name)) return reply.error(ERRNO.ENODATA);
    return this.#sized(operation, this.#filesystem.getxattr(inode, operation.name), reply);
  }

  /** Size 0 asks how long the value is. */
  #sized({ size }: GetXattr | ListXattr, value: Buffer, reply: Reply): Answer {
    if (size === 0) return reply.count(value.length);
    if (value.length > size) return reply.error(ERRNO.ERANGE);
    return reply.data([value]);
  }

  #allocate(request: Request, operation: Allocate, reply: Reply): Answer {
    const { inode, caller } = request;
    const { offset, length, mode } = operation;
    if (!FALLOCATE_MODES.includes(mode)) return reply.error(ERRNO.ENOTSUP);
    if (caller.uid !== 0) this.#dropPrivileges(inode);
    this.#filesystem.fallocate(inode, offset, length, mode);
    return reply.ok();
  }

  #seek(inode: Inode, { offset, whence }: Seek, reply: Reply): Answer {
    if (whence !== Whence.DATA && whence !== Whence.HOLE) return reply.error(ERRNO.EINVAL);
    const wanted = whence === Whence.DATA ? 'data' : 'hole';
    return reply.offset(this.#writeOpens.seek(this.#filesystem, inode, offset, wanted));
  }

  #copyRange(request: Request, operation: CopyRange, reply: Reply): Answer {
    const { inode, caller } = request;
    const { offset, target, targetOffset, wide } = operation;
    const length = wide ? operation.length : Math.min(operation.length, COPY_MAX_BYTES);
    if (caller.uid !== 0) this.#dropPrivileges(target);
    const copied = this.#filesystem.copyRange(inode, offset, target, targetOffset, length);
    return wide ? reply.offset(copied) : reply.count(copied);
  }
}

/** The kernel sends names of up to 1024 bytes. */
function tooLong(name: Buffer): boolean {
  return name.length > NAME_MAX;
}

function asRegular(mode: number): number {
  return (mode & Mode.PERMISSIONS) | Mode.REGULAR;
}

/**
 * The page cache is kept over opens, since nobody changes the file behind the kernel's back. Direct
 * opens go round it, several writers at once.
 */
function cachePolicy({ flags }: Open | Create | TemporaryFile): number {
  const direct = OpenReplyFlag.DIRECT_IO | OpenReplyFlag.PARALLEL_DIRECT_WRITES;
  return OpenReplyFlag.KEEP_CACHE | ((flags & O_DIRECT) !== 0 ? direct : 0);
}

/** Whether the operation would change the volume. */
export function changes({ op }: Operation): boolean {
  switch (op) {
    case 'setattr':
    case 'symlink':
    case 'mknod':
    case 'mkdir':
    case 'unlink':
    case 'rmdir':
    case 'rename':
    case 'link':
    case 'create':
    case 'tmpfile':
    case 'write':
    case 'setxattr':
    case 'removexattr':
    case 'fallocate':
    case 'copy-range':
      return true;
    default:
      return false;
  }
}

/** Whether a mount that is read-only refuses it. */
function mayChange({ operation }: Request): boolean {
  return operation.op === 'open' ? opensForWriting(operation.flags) : changes(operation);
}
