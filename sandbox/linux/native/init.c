// The first process of a sandbox: pid 1 of its pid namespace.
//
// The host starts it ahead of need, in new pid, mount, ipc and uts namespaces, and talks to it over descriptor 3, a
// SOCK_SEQPACKET socketpair. It is a dumb executor: each message is a list of operations that the host composed
// (shim.go has the same layout), carried out in order, answered by one reply. What a sandbox looks like is decided in
// Go, where it can be tested; here is only how the kernel is asked for it.
//
//	host                                   pid 1
//	 |-- operations (root file system) ----->|      ahead of the request
//	 |<-- READY ------------------------------|
//	 :                                       :      parked, no user code has run
//	 |-- operations (mounts, ..., OP_RUN) --->|
//	 |                                       |-- clone(CLONE_NEWUSER) --> runtime process, waits
//	 |                                       |   writes its id maps, gives up every privilege
//	 |                                       |-- go --------------------> drops ids and capabilities, filter, exec
//	 |<-- STARTED or FAILED(step, errno) -----|
//	 |-- 's' / 'c' (stop, continue all) ----->|      only where there is no freezer cgroup
//	 |<-- EXITED(wait status) ----------------|      then it exits, and the kernel kills what is left
//
// When the host goes away the socket reports end of file, and it exits as well.
//
// The same program has two further lives, told by its first argument. As "reaper" it is pid 1 of an environment that was forked
// from a template (runtimes/native/fork.c), is started there with the runtime as its child, and is told what to become
// by OP_WATCH. As "helper" it stays among the host's own processes with the host's privilege and carries out each message in a process of its
// own: it enters the namespaces of a forked environment, which nobody inside may mount in. Pid 1 of a template stays
// when the runtime process ends, since the environments forked from it live in its pid namespace, and reaps their intermediates.
//
// There is no libc: a parked or running sandbox then costs a handful of private pages, and the artefact depends on
// the compiler alone. All memory is static. Nothing the function does reaches this process as input.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

// ---- system calls -------------------------------------------------------------------------------------------------

static long sys(long n, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
#else
#error "amd64 and arm64 only"
#endif
}

#define SYS(name, a, b, c, d, e) sys(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

// The compiler may call these for struct copies and loops; -fno-builtin keeps it from calling them in themselves.
void *memcpy(void *to, const void *from, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		((u8 *)to)[i] = ((const u8 *)from)[i];
	return to;
}

void *memset(void *to, int c, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		((u8 *)to)[i] = (u8)c;
	return to;
}

static long length(const char *s)
{
	long n = 0;
	while (s[n])
		n++;
	return n;
}

static void quit(void) __attribute__((noreturn));
static void quit(void)
{
	for (;;)
		SYS(exit_group, 0, 0, 0, 0, 0);
}

// ---- the protocol; shim.go mirrors it -----------------------------------------------------------------------------

enum {
	OP_FAIL,    // fail with errno n; tests put it in an operation's place
	OP_MOUNT,   // mount(s0, s1, s2, flags a, s3); an empty string is NULL
	OP_SETATTR, // mount_setattr(s1) with attributes a, recursively
	OP_PIVOT,   // make s0 the root and let go of the old one
	OP_UNSHARE, // unshare(flags a)
	OP_NETNS,   // enter the network namespace of passed descriptor n
	OP_LOOPUP,  // bring the loopback interface up
	OP_LISTEN,  // listen on a free port of 127.0.0.1; the socket goes out with the reply
	OP_HOST,    // set the host name s0
	OP_LIMIT,   // setrlimit(n, soft a, hard b)
	OP_KEYRING, // leave the host's session keyring
	OP_FILTER,  // keep the blob as the seccomp filter for OP_RUN
	OP_RUN,     // start the runtime process; see run()
	OP_WATCH,   // reaper: become uid and gid a, give up every privilege, and watch process n
	OP_PIDNS,   // helper, first of a message: be in the pid namespace of passed descriptor n
	OP_PROC,    // helper: make a /proc of that namespace with the options s0, mounted nowhere
	OP_MNTNS,   // helper: enter the mount namespace of passed descriptor n
	OP_MOVE,    // helper: mount passed descriptor n, or what OP_PROC made for n == ~0, at s0
};

struct op {
	u8 code, step;
	u16 flags;
	u32 n;
	u64 a, b;
	u32 strings; // bytes of the four NUL-terminated strings that follow
	u32 blob;    // bytes of the blob after them
};               // the next op begins at the next multiple of eight

enum { READY = 'R', STARTED = 'S', FAILED = 'F', EXITED = 'E' };

struct reply {
	u8 kind, step;
	u16 pad;
	int value; // errno of FAILED, wait status of EXITED
};

// What OP_RUN's step is counted up by, so that a failure names its part. shim.go has the same order.
enum { RUN_CLONE, RUN_MAPS, RUN_DROP, RUN_CREDENTIALS, RUN_FILTER, RUN_EXEC };

enum {
	CONTROL = 3,
	MAX_MESSAGE = 256 << 10,
	MAX_FDS = 4,
	MAX_FILTER = 4096,
	MAX_STRINGS = 4096,
	HAS_CHANNEL = 1,
	IS_TEMPLATE = 2,
};

static u8 message[MAX_MESSAGE] __attribute__((aligned(8)));
static struct sock_filter filter[MAX_FILTER];
static u16 filter_len;
static char *vectors[MAX_STRINGS + 2]; // argv, NULL, envp, NULL
static int fds[MAX_FDS], nfds;
static int listener = -1;
static int detached = -1; // what OP_PROC made
static int is_template;

// ---- sending and receiving ----------------------------------------------------------------------------------------

struct iovec_ { void *base; u64 len; };
struct msghdr_ { void *name; u32 namelen; u32 pad; struct iovec_ *iov; u64 iovlen; void *control; u64 controllen; u32 flags; u32 pad2; };
struct cmsg_fds { u64 len; int level, type; int fd[MAX_FDS]; };
enum { SOL_SOCKET_ = 1, SCM_RIGHTS_ = 1, MSG_CMSG_CLOEXEC_ = 0x40000000, MSG_NOSIGNAL_ = 0x4000 };

static void answer(u8 kind, u8 step, int value)
{
	struct reply r = { kind, step, 0, value };
	struct iovec_ iov = { &r, sizeof r };
	struct cmsg_fds c = { 16 + sizeof(int), SOL_SOCKET_, SCM_RIGHTS_, { listener } };
	struct msghdr_ m = { 0, 0, 0, &iov, 1, 0, 0, 0, 0 };
	if (listener >= 0 && kind == READY) {
		m.control = &c;
		m.controllen = 24; // one descriptor, padded
	}
	if (SYS(sendmsg, CONTROL, &m, MSG_NOSIGNAL_, 0, 0) < 0)
		quit();
	if (m.control) {
		SYS(close, listener, 0, 0, 0, 0);
		listener = -1;
	}
}

// receive gives the length of the next message; its descriptors are in fds.
static long receive(void)
{
	struct iovec_ iov = { message, sizeof message };
	struct cmsg_fds c;
	struct msghdr_ m = { 0, 0, 0, &iov, 1, &c, sizeof c, 0, 0 };
	long n;
	do
		n = SYS(recvmsg, CONTROL, &m, MSG_CMSG_CLOEXEC_, 0, 0);
	while (n == -EINTR);
	if (n <= 0)
		quit();
	nfds = 0;
	if (m.controllen >= 16 && c.level == SOL_SOCKET_ && c.type == SCM_RIGHTS_)
		for (u64 at = 16; at + sizeof(int) <= c.len && nfds < MAX_FDS; at += sizeof(int))
			fds[nfds] = c.fd[nfds], nfds++;
	return n;
}

// ---- operations ---------------------------------------------------------------------------------------------------

static long pivot(const char *root)
{
	long err;
	if ((err = SYS(chdir, root, 0, 0, 0, 0)) < 0)
		return err;
	// With both arguments the same, the old root is mounted over the new one, and one detach removes it.
	if ((err = SYS(pivot_root, ".", ".", 0, 0, 0)) < 0)
		return err;
	if ((err = SYS(umount2, ".", 2 /* MNT_DETACH */, 0, 0, 0)) < 0)
		return err;
	return SYS(chdir, "/", 0, 0, 0, 0);
}

static long loop_up(void)
{
	struct { char name[16]; u16 flags; u8 rest[22]; } ifr = { "lo", 0, { 0 } };
	long fd = SYS(socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */ | O_CLOEXEC, 0, 0, 0), err;
	if (fd < 0)
		return fd;
	err = SYS(ioctl, fd, 0x8913 /* SIOCGIFFLAGS */, &ifr, 0, 0);
	if (err >= 0) {
		ifr.flags |= 1; // IFF_UP
		err = SYS(ioctl, fd, 0x8914 /* SIOCSIFFLAGS */, &ifr, 0, 0);
	}
	SYS(close, fd, 0, 0, 0, 0);
	return err;
}

static long open_listener(void)
{
	struct { u16 family; u8 port[2]; u8 addr[4]; u8 zero[8]; } in = { 2, { 0, 0 }, { 127, 0, 0, 1 }, { 0 } };
	long fd = SYS(socket, 2 /* AF_INET */, 1 /* SOCK_STREAM */ | O_CLOEXEC, 0, 0, 0), err;
	if (fd < 0)
		return fd;
	if ((err = SYS(bind, fd, &in, sizeof in, 0, 0)) < 0)
		return err;
	if ((err = SYS(listen, fd, 128, 0, 0, 0)) < 0)
		return err;
	listener = (int)fd;
	return 0;
}

// make_proc makes a file system of the calling process's pid namespace. It has to come before the mount namespace is entered: there
// the kernel would refuse it, since parts of the /proc that it has are hidden. options has the form key=value,key=value.
static long make_proc(char *options)
{
	long fs = SYS(fsopen, "proc", FSOPEN_CLOEXEC, 0, 0, 0), err;
	if (fs < 0)
		return fs;
	while (*options) {
		char *key = options, *value = 0;
		for (; *options && *options != ','; options++)
			if (*options == '=')
				*options = 0, value = options + 1;
		if (*options)
			*options++ = 0;
		if ((err = SYS(fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0)) < 0)
			return err;
	}
	if ((err = SYS(fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0)) < 0)
		return err;
	err = SYS(fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0, 0);
	SYS(close, fs, 0, 0, 0, 0);
	if (err < 0)
		return err;
	detached = (int)err;
	return 0;
}

// ---- the runtime process ------------------------------------------------------------------------------------------

static int write_proc(u32 pid, const char *name, const char *text)
{
	char path[40] = "/proc/", digits[12];
	int n = 6, d = 0;
	do
		digits[d++] = (char)('0' + pid % 10);
	while (pid /= 10);
	while (d)
		path[n++] = digits[--d];
	do
		path[n++] = *name;
	while (*name++);
	long fd = SYS(openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0, 0), err;
	if (fd < 0)
		return (int)fd;
	err = SYS(write, fd, text, length(text), 0, 0);
	SYS(close, fd, 0, 0, 0, 0);
	return err < 0 ? (int)err : 0;
}

// drop_capabilities empties every set. The bounding set goes first, since that takes CAP_SETPCAP.
static long drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	for (int cap = 0; cap < 64; cap++)
		if (SYS(prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			break; // the kernel's last capability is behind us
	SYS(prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return SYS(capset, &head, none, 0, 0, 0);
}

static long install_filter(void)
{
	struct sock_fprog program = { filter_len, filter };
	long err = SYS(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (err < 0 || !filter_len)
		return err;
	return SYS(seccomp, SECCOMP_SET_MODE_FILTER, 0, &program, 0, 0);
}

// drop gives up every privilege, and takes the ids if they are not zero.
static long drop(u32 uid, u32 gid)
{
	long err;
	SYS(prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (uid) {
		err = SYS(setgroups, 0, 0, 0, 0, 0);
		if (err < 0 && err != -EPERM) // a user namespace's process may have lost the right, and then has no groups
			return err;
		if ((err = SYS(setresgid, gid, gid, gid, 0, 0)) < 0 || (err = SYS(setresuid, uid, uid, uid, 0, 0)) < 0)
			return err;
	}
	if ((err = drop_capabilities()) < 0)
		return err;
	return install_filter();
}

struct failure { u8 step; int err; };

// told_to_fail says whether a test wants this part of OP_RUN to fail.
static int told_to_fail(char *s[4], int part)
{
	return s[3][0] == '0' + part;
}

// become turns the cloned child into the runtime process. It returns only when that failed.
static void become(struct failure *f, const struct op *op, int ready, char *s[4])
{
	u32 uid = (u32)op->a, gid = (u32)(op->a >> 32), argc = op->n;
	u8 byte;

	// The host end of this pipe is pid 1; end of file without the byte means that it gave up.
	if (SYS(read, ready, &byte, 1, 0, 0) != 1)
		quit();

	long err = -EIO;
	f->step = RUN_CREDENTIALS;
	if (told_to_fail(s, RUN_CREDENTIALS))
		goto fail;
	SYS(setsid, 0, 0, 0, 0, 0);
	err = SYS(setgroups, 0, 0, 0, 0, 0);
	if (err < 0 && err != -EPERM) // denied for good below a namespace that an unprivileged user made
		goto fail;
	if ((err = SYS(setresgid, gid, gid, gid, 0, 0)) < 0 || (err = SYS(setresuid, uid, uid, uid, 0, 0)) < 0)
		goto fail;
	if ((err = drop_capabilities()) < 0)
		goto fail;

	f->step = RUN_EXEC;
	if ((err = SYS(chdir, s[0], 0, 0, 0, 0)) < 0)
		goto fail;
	// fds[0] is the output pipe and fds[1] the channel. Descriptor 0 is /dev/null since pid 1 was started.
	if ((err = SYS(dup3, fds[0], 1, 0, 0, 0)) < 0 || (err = SYS(dup3, fds[0], 2, 0, 0, 0)) < 0)
		goto fail;
	if (op->flags & HAS_CHANNEL)
		err = SYS(dup3, fds[1], 3, 0, 0, 0);
	else
		err = SYS(close, 3, 0, 0, 0, 0);
	if (err < 0)
		goto fail;
	if ((err = SYS(close_range, 4, ~0U, CLOSE_RANGE_CLOEXEC, 0, 0)) < 0)
		goto fail;

	f->step = RUN_FILTER;
	err = -EIO;
	if (told_to_fail(s, RUN_FILTER) || (err = install_filter()) < 0)
		goto fail;
	f->step = RUN_EXEC;
	err = -EIO;
	if (!told_to_fail(s, RUN_EXEC))
		err = SYS(execve, vectors[0], vectors, vectors + argc + 1, 0, 0);
fail:
	f->err = (int)-err;
}

// run starts the runtime process and gives its pid, or the negative errno with *part saying where.
//
//	n  number of arguments, the rest of the blob's strings is the environment
//	a  the runtime's uid, and its gid in the upper half, as its own user namespace counts them
//	b  the uid and gid that pid 1 takes, zero for none
//	s0 working directory, s1 uid_map, s2 gid_map, s3 a digit: the part to fail, for tests
static long run(const struct op *op, char *s[4], char *blob, u8 *part)
{
	int ready[2], result[2];
	long err, pid;
	u32 count = 0;
	struct failure f = { 0, 0 };

	// argv and envp point into the message.
	*part = RUN_CLONE;
	for (u32 at = 0; at < op->blob; at += (u32)length(blob + at) + 1) {
		if (count >= MAX_STRINGS)
			return -E2BIG;
		vectors[count + (count >= op->n)] = blob + at;
		count++;
	}
	if (count < op->n || op->n == 0 || nfds < 1)
		return -EINVAL;
	vectors[op->n] = 0;
	vectors[count + 1] = 0;

	if ((err = SYS(pipe2, ready, O_CLOEXEC, 0, 0, 0)) < 0 || (err = SYS(pipe2, result, O_CLOEXEC, 0, 0, 0)) < 0)
		return err;
	if (told_to_fail(s, RUN_CLONE))
		return -EIO;
	u64 space = CLONE_NEWUSER;
	if (op->flags & IS_TEMPLATE) {
		// Id maps of the environments forked from it can only be written from the namespace that it is in: the host's.
		is_template = 1;
		space = 0;
		// Leave out one pid: libraries notice a fork by a change of getpid(), and the environments' runtimes have the
		// one that comes after pid 1.
		if ((pid = SYS(clone, 17, 0, 0, 0, 0)) == 0)
			quit();
		if (pid < 0)
			return pid;
		SYS(wait4, pid, 0, 0, 0, 0);
	}
	if ((pid = SYS(clone, space | 17 /* SIGCHLD */, 0, 0, 0, 0)) < 0)
		return pid;
	if (pid == 0) {
		SYS(close, ready[1], 0, 0, 0, 0);
		SYS(close, result[0], 0, 0, 0, 0);
		// The close_range in become spares the lower numbers: keep the pipes out of their way.
		int r = (int)SYS(fcntl, ready[0], F_DUPFD_CLOEXEC, 16, 0, 0), w = (int)SYS(fcntl, result[1], F_DUPFD_CLOEXEC, 16, 0, 0);
		if (r >= 0 && w >= 0) {
			become(&f, op, r, s);
			SYS(write, w, &f, sizeof f, 0, 0);
		}
		quit();
	}
	SYS(close, ready[0], 0, 0, 0, 0);
	SYS(close, result[1], 0, 0, 0, 0);

	*part = RUN_MAPS;
	if (told_to_fail(s, RUN_MAPS))
		return -EIO;
	if (!is_template && ((err = write_proc((u32)pid, "/uid_map", s[1])) < 0 || (err = write_proc((u32)pid, "/gid_map", s[2])) < 0))
		return err;
	// When memory runs out the kernel shall choose anything but pid 1, whose own score stays at zero.
	if ((err = write_proc((u32)pid, "/oom_score_adj", "1000")) < 0)
		return err;
	// Nothing in the sandbox has to write to /proc from here on.
	if ((err = SYS(mount, 0, "/proc", 0, 32 | 1 | 2 | 4 | 8 | 4096 /* REMOUNT RDONLY NOSUID NODEV NOEXEC BIND */, 0)) < 0)
		return err;

	// No user code has run so far; before any does, this process gives up what it does not need: everything.
	*part = RUN_DROP;
	if (told_to_fail(s, RUN_DROP))
		return -EIO;
	if ((err = drop((u32)op->b, (u32)(op->b >> 32))) < 0)
		return err;
	for (int i = 0; i < nfds; i++)
		SYS(close, fds[i], 0, 0, 0, 0);

	*part = RUN_CREDENTIALS;
	if ((err = SYS(write, ready[1], "", 1, 0, 0)) < 0)
		return err;
	SYS(close, ready[1], 0, 0, 0, 0);
	// End of file: the exec closed the pipe.
	if (SYS(read, result[0], &f, sizeof f, 0, 0) == sizeof f) {
		*part = f.step;
		return -f.err;
	}
	SYS(close, result[0], 0, 0, 0, 0);
	return pid;
}

// ---- the loop -----------------------------------------------------------------------------------------------------

// carry_out does every operation of a message. It gives the runtime's pid, zero when nothing was started, or the
// negative errno with *step saying where.
static long carry_out(u8 *at, u8 *end, u8 *step)
{
	long err = 0;
	while (at < end) {
		struct op *op = (struct op *)at;
		char *s[4], *p = (char *)(op + 1);
		if ((u64)(end - at) < sizeof *op || op->strings < 4 || (u64)op->strings + op->blob > (u64)(end - at) - sizeof *op)
			return -EBADMSG;
		char *blob = p + op->strings;
		*step = op->step;
		if (blob[-1] || (op->blob && op->code == OP_RUN && blob[op->blob - 1]))
			return -EBADMSG;
		for (int i = 0; i < 4; i++) {
			if (p >= blob)
				return -EBADMSG;
			s[i] = p;
			p += length(p) + 1;
		}
		switch (op->code) {
		case OP_FAIL:
			err = -(long)op->n;
			break;
		case OP_MOUNT:
			err = SYS(mount, s[0][0] ? s[0] : 0, s[1], s[2][0] ? s[2] : 0, op->a, s[3][0] ? s[3] : 0);
			break;
		case OP_SETATTR: {
			struct mount_attr attr = { op->a, 0, 0, 0 };
			err = SYS(mount_setattr, AT_FDCWD, s[1], AT_RECURSIVE, &attr, sizeof attr);
			break;
		}
		case OP_PIVOT:
			err = pivot(s[0]);
			break;
		case OP_UNSHARE:
			err = SYS(unshare, op->a, 0, 0, 0, 0);
			break;
		case OP_NETNS:
			err = op->n < (u32)nfds ? SYS(setns, fds[op->n], CLONE_NEWNET, 0, 0, 0) : -EBADF;
			break;
		case OP_LOOPUP:
			err = loop_up();
			break;
		case OP_LISTEN:
			err = open_listener();
			break;
		case OP_HOST:
			err = SYS(sethostname, s[0], length(s[0]), 0, 0, 0);
			break;
		case OP_LIMIT: {
			u64 limit[2] = { op->a, op->b };
			err = SYS(prlimit64, 0, op->n, limit, 0, 0);
			break;
		}
		case OP_KEYRING:
			err = SYS(keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0);
			if (err == -ENOSYS) // a kernel without keyrings has none to leave
				err = 0;
			break;
		case OP_FILTER:
			if (op->blob > sizeof filter || op->blob % sizeof filter[0])
				return -EBADMSG;
			memcpy(filter, blob, op->blob);
			filter_len = (u16)(op->blob / sizeof filter[0]);
			break;
		case OP_RUN: {
			u8 part = 0;
			long pid = run(op, s, blob, &part);
			*step = (u8)(op->step + part);
			return pid;
		}
		case OP_WATCH:
			if ((err = drop((u32)op->a, (u32)(op->a >> 32))) < 0)
				return err;
			return op->n;
		case OP_PROC:
			err = make_proc(s[0]);
			break;
		case OP_MNTNS:
			err = op->n < (u32)nfds ? SYS(setns, fds[op->n], CLONE_NEWNS, 0, 0, 0) : -EBADF;
			break;
		case OP_MOVE: {
			int fd = op->n == ~0U ? detached : op->n < (u32)nfds ? fds[op->n] : -1;
			err = SYS(move_mount, fd, "", AT_FDCWD, s[0], MOVE_MOUNT_F_EMPTY_PATH);
			break;
		}
		default:
			return -EBADMSG;
		}
		if (err < 0)
			return err;
		at += (sizeof *op + op->strings + op->blob + 7) & ~7UL;
	}
	return 0;
}

// reap waits for whatever has ended. It answers the runtime's end and exits then: the kernel kills all others. A template's
// pid 1 stays for the environments that were forked.
static void reap(long runtime)
{
	int status;
	long pid;
	while ((pid = SYS(wait4, -1, &status, 1 /* WNOHANG */, 0, 0)) > 0)
		if (pid == runtime) {
			answer(EXITED, 0, status);
			if (!is_template)
				quit();
		}
}

// serve is the life after the start: reap orphans, obey stop and continue, end with the host.
static void serve(long runtime, int signals)
{
	struct { int fd; short events, revents; } p[2] = { { CONTROL, 1 /* POLLIN */, 0 }, { signals, 1, 0 } };
	u8 info[128];
	for (;;) {
		reap(runtime);
		p[0].revents = p[1].revents = 0;
		if (SYS(ppoll, p, 2, 0, 0, 0) < 0)
			continue;
		if (p[1].revents)
			SYS(read, signals, info, sizeof info, 0, 0);
		if (p[0].revents) {
			receive();
			// Every process of the namespace but this one; the runtime never sees who sent it.
			if (message[0] == 's' || message[0] == 'c')
				SYS(kill, -1, message[0] == 's' ? 19 /* SIGSTOP */ : 18 /* SIGCONT */, 0, 0, 0);
			message[0] = 0;
			answer(READY, 0, 0);
		}
	}
}

// help carries out one message in a process of its own, which is in the pid namespace that the message names.
static void help(long n)
{
	struct op *op = (struct op *)message;
	u8 step = op->step;
	int status = 0;
	long err = -EBADMSG, pid;
	if ((u64)n >= sizeof *op && op->code == OP_PIDNS && op->n < (u32)nfds)
		err = SYS(setns, fds[op->n], CLONE_NEWPID, 0, 0, 0);
	if (err >= 0)
		err = pid = SYS(clone, 17, 0, 0, 0, 0);
	if (err < 0) {
		answer(FAILED, step, (int)-err);
		return;
	}
	if (pid == 0) {
		u8 *rest = message + ((sizeof *op + op->strings + op->blob + 7) & ~7UL);
		err = carry_out(rest, message + n, &step);
		SYS(exit_group, err < 0 ? -err : 0, 0, 0, 0, 0);
	}
	// It tells by its exit code, an errno, and only this process answers: each message has one answer whenever the other is killed, as
	// it may be with the environment whose namespace it is in.
	SYS(wait4, pid, &status, 0, 0, 0);
	if (status == 0)
		answer(READY, 0, 0);
	else
		answer(FAILED, step, status & 0x7f ? EIO : status >> 8 & 0xff);
}

__attribute__((used)) static void start(long *stack)
{
	char **args = (char **)(stack + 1);
	u8 life = stack[0] > 1 ? (u8)args[1][0] : 0;
	u64 chld = 1UL << (17 - 1), none = 0;
	SYS(close_range, CONTROL + 1, ~0U, 0, 0, 0);
	SYS(umask, 022, 0, 0, 0, 0);
	if (life == 'h')
		for (;;) {
			long n = receive();
			help(n);
			for (int i = 0; i < nfds; i++)
				SYS(close, fds[i], 0, 0, 0, 0);
		}
	long signals = SYS(signalfd4, -1, &chld, sizeof chld, O_CLOEXEC, 0);
	if (signals < 0)
		quit();
	if (life == 'r')
		answer(READY, 0, 0);
	for (;;) {
		u8 step = 0;
		long n = receive(), pid = carry_out(message, message + n, &step);
		if (pid < 0) {
			answer(FAILED, step, (int)-pid);
			quit();
		}
		if (pid == 0) {
			answer(READY, 0, 0);
			continue;
		}
		// SIGCHLD is blocked only now, so that the runtime process did not inherit a mask. A child that has ended
		// before this is found by the first reap.
		SYS(rt_sigprocmask, 0 /* SIG_BLOCK */, &chld, 0, sizeof none, 0);
		answer(STARTED, 0, 0);
		serve(pid, (int)signals);
	}
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall start\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl start\n");
#endif
