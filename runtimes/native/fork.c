// Forks an initialised interpreter. One shared object for every language: an extension module of CPython (stable ABI),
// an addon of Node.js (Node-API) and an extension of Ruby. What belongs to one language is at the end of the file; its
// functions are weak symbols, which the other interpreters leave unresolved.
//
// A template waits in park() on the channel, descriptor 3, where no user code runs. For each environment the host sends
// one byte and, with it, one end of a control socket of the new environment's own:
//
//	host                            template     intermediate        pid 1            runtime (pid 2)
//	 |-- 'F' + control socket -------->|-- vfork ---->|
//	 |<-- HERE -------------------------------------- |                               host: cgroup of its own
//	 |                                 :              | unshare
//	 |<-- UNSHARED ---------------------------------- |                               host: id maps
//	 |-- GO + program, output, channel -------------->|-- vfork ------->|
//	 |                                 :              :                 |-- fork ------->| waits for START
//	 |                                 :              |<- execs program |                :
//	 |                                 |<---- exits --|                 |                :
//	 |          (next request)                    pid 1 answers, host mounts /tmp, /proc  :
//	 |-- START + system call filter, variables ---- channel ---------------------------->|
//	 |<-- STARTED or FAILED(step, errno) -------------------------------------------------| then back to the interpreter
//
// The address space is copied once, by the last fork: until then intermediate and pid 1 borrow the template's memory
// while it stands still (vfork), and so the copy is charged to the cgroup of the new environment. What they do to
// shared memory is limited to their own stack frames. Only the runtime returns from spawn(); the others exec or exit.
//
// All but fork itself goes by plain system calls: the C library's setresuid, for one, would signal threads that the
// template has and its copies have not.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define WEAK __attribute__((weak))

// ---- the protocol; sandbox/linux/fork_message.go mirrors it ---------------------------------------------------------

enum { HERE = 'H', UNSHARED = 'U', STARTED = 'S', FAILED = 'F', REQUEST = 'F', GO = 'G', START = 'B' };

// What a failure is counted up by from the step in the host's numbering; the host has the same order.
enum { PART_UNSHARE, PART_CLONE, PART_EXEC, PART_DESCRIPTORS, PART_CREDENTIALS, PART_FILTER, PART_RESEED };

struct reply {
	uint8_t kind, part;
	uint16_t pad;
	int32_t error;
};

// go is the host's answer to UNSHARED. fail is a part that a test wants to fail, 0xff for none.
struct go {
	uint8_t kind, fail;
	uint16_t pad;
	uint32_t uid, gid; // what pid 1 becomes
};

// start is the first that the runtime hears; the filter and the variables follow it.
struct start {
	uint8_t kind, fail;
	uint16_t pad;
	uint32_t uid, gid;  // what the runtime becomes
	uint32_t filter;    // bytes
	uint32_t variables; // bytes: KEY=value, each with a NUL
};

enum { CHANNEL = 3, MAX_FILTER = 64 << 10, MAX_VARIABLES = 256 << 10 };

static int say(int fd, uint8_t kind, uint8_t part, int error)
{
	struct reply r = { kind, part, 0, error };
	return send(fd, &r, sizeof r, MSG_NOSIGNAL) == sizeof r ? 0 : -1;
}

// receive reads one message and up to max descriptors; the unused entries of fds are -1.
static ssize_t receive(int fd, void *data, size_t size, int *fds, int max)
{
	union { struct cmsghdr head; char space[CMSG_SPACE(4 * sizeof(int))]; } c;
	struct iovec iov = { data, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
	ssize_t n;
	for (int i = 0; i < max; i++)
		fds[i] = -1;
	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		for (int i = 0; i < max && CMSG_LEN((size_t)(i + 1) * sizeof(int)) <= h->cmsg_len; i++)
			memcpy(&fds[i], CMSG_DATA(h) + (size_t)i * sizeof(int), sizeof(int));
	return n;
}

// above_standard moves a descriptor out of the way of those that have a meaning by their number.
static int above_standard(int fd)
{
	if (fd < 0 || fd > 2 * CHANNEL)
		return fd;
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, 2 * CHANNEL + 1);
	close(fd);
	return moved;
}

// ---- the template's side ----------------------------------------------------------------------------------------------

enum { PROGRAM, OUTPUT, RUNTIME_CHANNEL };

// child is what the runtime finds in its copy of the memory.
struct child {
	int control, fds[3];
	sigset_t mask; // the interpreter's own
};

static void run_reaper(struct child *c, const struct go *go) __attribute__((noreturn));
static void run_reaper(struct child *c, const struct go *go)
{
	static char *const args[] = { "thaw-init", "reaper", NULL };
	static char *const none[] = { NULL };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	int err = EIO;
	// An ignored SIGCHLD would survive the exec and hide the runtime's end. The table of handlers is a copy.
	if (go->fail == PART_EXEC || sigaction(SIGCHLD, &dfl, NULL) < 0)
		goto fail;
	if (syscall(SYS_setresgid, go->gid, go->gid, go->gid) < 0 || syscall(SYS_setresuid, go->uid, go->uid, go->uid) < 0) {
		err = errno;
		goto fail;
	}
	// The program expects its socket at 3; this process's table of descriptors is its own.
	int program = fcntl(c->fds[PROGRAM], F_DUPFD_CLOEXEC, 8);
	if (program >= 0 && (c->control == CHANNEL || dup2(c->control, CHANNEL) == CHANNEL)) {
		fcntl(CHANNEL, F_SETFD, 0);
		syscall(SYS_execveat, program, "", args, none, AT_EMPTY_PATH);
	}
	err = errno;
fail:
	say(c->control, FAILED, PART_EXEC, err);
	_exit(1); // pid 1's end is the end of the runtime
}

// leave_namespaces returns in namespaces and a cgroup of the process's own, with the host's word to go on.
static void leave_namespaces(struct child *c, struct go *go)
{
	if (say(c->control, HERE, 0, 0) < 0)
		_exit(1);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID) < 0) {
		say(c->control, FAILED, PART_UNSHARE, errno);
		_exit(1);
	}
	if (say(c->control, UNSHARED, 0, 0) < 0 || receive(c->control, go, sizeof *go, c->fds, 3) != sizeof *go || go->kind != GO)
		_exit(1); // the host gave up
	for (int i = 0; i < 3; i++)
		c->fds[i] = above_standard(c->fds[i]);
	if (go->fail == PART_UNSHARE || go->fail == PART_CLONE) {
		say(c->control, FAILED, go->fail, EIO);
		_exit(1);
	}
	// Only now is this process in the cgroup that the namespace shall begin at.
	if (unshare(CLONE_NEWCGROUP) < 0) {
		say(c->control, FAILED, PART_UNSHARE, errno);
		_exit(1);
	}
}

// intermediate returns in the runtime only.
static void intermediate(struct child *c) __attribute__((noinline));
static void intermediate(struct child *c)
{
	struct go go;
	leave_namespaces(c, &go);
	pid_t first = vfork();
	if (first == 0) {
		pid_t runtime = fork();
		if (runtime == 0)
			return;
		if (runtime < 0) {
			say(c->control, FAILED, PART_CLONE, errno);
			_exit(1);
		}
		run_reaper(c, &go);
	}
	if (first < 0)
		say(c->control, FAILED, PART_CLONE, errno);
	_exit(0);
}

// spawn makes one environment. It returns 0 in the template and 1 in the new runtime.
static int spawn(struct child *c) __attribute__((noinline));
static int spawn(struct child *c)
{
	sigset_t all, chld;
	sigfillset(&all);
	// No handler of the user's may run in a process that borrows this memory.
	sigprocmask(SIG_SETMASK, &all, &c->mask);
	pid_t pid = vfork();
	if (pid == 0) {
		intermediate(c);
		return 1;
	}
	if (pid < 0) {
		say(c->control, FAILED, PART_CLONE, errno);
	} else {
		struct timespec now = { 0, 0 };
		while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
			;
		sigemptyset(&chld);
		sigaddset(&chld, SIGCHLD);
		while (sigtimedwait(&chld, NULL, &now) == SIGCHLD) // not an event of the user's
			;
	}
	close(c->control);
	sigprocmask(SIG_SETMASK, &c->mask, NULL);
	return 0;
}

// What setitimer and alarm set is for one process: a fork has none of it. The template's are taken out while it is parked, and
// each environment gets what was left of them.
static struct itimerval held[3]; // by ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF

static void hold_timers(void)
{
	const struct itimerval none = { { 0, 0 }, { 0, 0 } };
	struct itimerval t;
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
		if (setitimer(which, &none, &t) == 0 && timerisset(&t.it_value))
			held[which] = t;
}

static void resume_timers(void)
{
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
		if (timerisset(&held[which].it_value))
			setitimer(which, &held[which], NULL);
}

// wait_request gives the control socket of the next environment.
static int wait_request(void)
{
	for (;;) {
		uint8_t kind;
		int control;
		struct pollfd p = { CHANNEL, POLLIN, 0 };
		poll(&p, 1, -1);
		ssize_t n = receive(CHANNEL, &kind, 1, &control, 1);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			_exit(0); // the host has gone
		if (kind == REQUEST && control >= 0)
			return above_standard(control);
		if (control >= 0)
			close(control);
	}
}

// ---- the runtime's side -----------------------------------------------------------------------------------------------

static int read_all(int fd, void *data, size_t size)
{
	for (size_t have = 0; have < size;) {
		ssize_t n = read(fd, (char *)data + have, size - have);
		if (n == 0 || (n < 0 && errno != EINTR))
			return -1;
		have += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

// own_descriptors gives this environment open files of its own: after a fork the offset of a file, or of a folder, is shared by
// all copies, and what is open in /tmp is the template's file and not the copy of it.
static int own_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	if (!dir)
		return -1;
	while ((e = readdir(dir))) {
		char link[32], path[PATH_MAX];
		struct stat st, now;
		int fd = atoi(e->d_name), fresh = -1, flags, cloexec;
		ssize_t n;
		if (e->d_name[0] == '.' || fd == dirfd(dir) || fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		if ((n = readlink(link, path, sizeof path - 1)) < 0 || (flags = fcntl(fd, F_GETFL)) < 0 || (cloexec = fcntl(fd, F_GETFD)) < 0)
			continue;
		path[n] = 0;
		flags &= ~(O_CREAT | O_EXCL | O_TRUNC);
		if (flags & O_PATH)
			continue; // has no offset
		if (!strncmp(path, "/tmp/", 5) || !strcmp(path, "/tmp") || !strncmp(path, "/dev/shm/", 9)) {
			fresh = open(path, flags | O_CLOEXEC);
			// The host has mounted this environment's own folder before: what is on the same device is the template's still.
			if (fresh >= 0 && (fstat(fresh, &now) < 0 || now.st_dev == st.st_dev)) {
				close(fresh);
				closedir(dir);
				errno = EXDEV;
				return -1;
			}
		}
		if (fresh < 0 && (flags & O_ACCMODE) == O_RDONLY)
			fresh = open(link, flags | O_CLOEXEC);
		if (fresh < 0 && (flags & O_ACCMODE) != O_RDONLY) {
			int err = errno; // what was written would be the template's, and every environment's
			closedir(dir);
			errno = err;
			return -1;
		}
		if (fresh < 0)
			continue; // only the template could open it; it is read on where the template was
		if (S_ISREG(st.st_mode))
			lseek(fresh, lseek(fd, 0, SEEK_CUR), SEEK_SET);
		dup3(fresh, fd, cloexec & FD_CLOEXEC ? O_CLOEXEC : 0);
		close(fresh);
	}
	closedir(dir);
	char cwd[PATH_MAX];
	ssize_t n = readlink("/proc/self/cwd", cwd, sizeof cwd - 1);
	if (n > 0) {
		cwd[n] = 0;
		if ((!strncmp(cwd, "/tmp/", 5) || !strcmp(cwd, "/tmp")) && chdir(cwd) < 0)
			return -1;
	}
	return 0;
}

static int drop_privileges(uint32_t uid, uint32_t gid)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -1;
	for (int cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			break; // the kernel's last capability is behind us
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		return -1;
	// The change of ids made /proc/self root's; a started process owns it.
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

extern const ptrdiff_t __rseq_offset WEAK;
extern const unsigned int __rseq_size WEAK;

// renew_rseq registers what a process that shares memory loses: without it the C library would go on reading the processor's
// number of long ago.
static void renew_rseq(void)
{
#if defined(__x86_64__)
	const uint32_t signature = 0x53053053;
#else
	const uint32_t signature = 0xd428bc00;
#endif
	if (!&__rseq_size || __rseq_size == 0)
		return;
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	unsigned int size = __rseq_size <= 32 ? 32 : (__rseq_size + 31) / 32 * 32;
	if (syscall(SYS_rseq, area, size, 0, signature) < 0 && errno != EBUSY)
		*(volatile int32_t *)(area + 4) = -2; // RSEQ_CPU_ID_REGISTRATION_FAILED
}

// reseed_openssl has the OpenSSL in a handle, if there is one, take fresh bytes from the kernel. Its own check is of the pid,
// which copies of one template share. A generator that a library has put in the place of OpenSSL's (s2n does) takes none, and
// nobody knows what state it has: OpenSSL's own is put back before.
static int reseed_openssl(void *lib)
{
	int (*poll)(void) = (int (*)(void))dlsym(lib, "RAND_poll");
	const void *(*own)(void) = (const void *(*)(void))dlsym(lib, "RAND_OpenSSL");
	const void *(*current)(void) = (const void *(*)(void))dlsym(lib, "RAND_get_rand_method");
	int (*set)(const void *) = (int (*)(const void *))dlsym(lib, "RAND_set_rand_method");
	if (!poll)
		return 0;
	if (own && current && set && current() != own() && set(own()) != 1)
		return -1;
	return poll() == 1 ? 0 : -1;
}

static int reseed_object(struct dl_phdr_info *info, size_t size, void *failed)
{
	(void)size;
	const char *base = strrchr(info->dlpi_name, '/');
	if (strncmp(base ? base + 1 : info->dlpi_name, "libcrypto", 9) != 0)
		return 0;
	void *lib = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
	if (!lib)
		return 0;
	if (reseed_openssl(lib) < 0)
		*(int *)failed = 1;
	dlclose(lib);
	return 0;
}

static int reseed(void)
{
	int failed = 0;
	if (dlsym(RTLD_DEFAULT, "RAND_poll"))
		return reseed_openssl(RTLD_DEFAULT);
	dl_iterate_phdr(reseed_object, &failed);
	return failed ? -1 : 0;
}

static void give_up(int channel, uint8_t part, int error) __attribute__((noreturn));
static void give_up(int channel, uint8_t part, int error)
{
	say(channel, FAILED, part, error);
	_exit(1);
}

// take_over puts fresh in the place of every descriptor of the open file that old is one of, with its way of blocking.
static int take_over(int old, int fresh, int first, int last)
{
	struct stat want, have;
	int flags = fcntl(old, F_GETFL);
	if (flags < 0 || fstat(old, &want) < 0)
		want.st_ino = 0, want.st_dev = 0, flags = 0;
	if (flags & O_NONBLOCK && fcntl(fresh, F_SETFL, fcntl(fresh, F_GETFL) | O_NONBLOCK) < 0)
		return -1;
	for (int fd = first; fd <= last; fd++)
		if (dup3(fresh, fd, fd == CHANNEL ? O_CLOEXEC : 0) < 0)
			return -1;
	for (int fd = 0; fd < 1024; fd++)
		if (fd != fresh && (fd < first || fd > last) && fstat(fd, &have) == 0 && have.st_ino == want.st_ino && have.st_dev == want.st_dev && dup2(fresh, fd) < 0)
			return -1;
	return 0;
}

// become makes the copy a runtime of its own and gives its variables, each with a NUL, and their size.
static char *become(struct child *c, uint32_t *size)
{
	static struct sock_filter filter[MAX_FILTER / sizeof(struct sock_filter)];
	struct start s;
	int channel = c->fds[RUNTIME_CHANNEL];
	close(c->control);
	close(c->fds[PROGRAM]);
	if (read_all(channel, &s, sizeof s) < 0 || s.kind != START || s.filter > MAX_FILTER || s.variables > MAX_VARIABLES ||
	    read_all(channel, filter, s.filter) < 0)
		_exit(1); // the host gave up
	char *variables = malloc(s.variables + 1);
	if (!variables || read_all(channel, variables, s.variables) < 0)
		_exit(1);
	renew_rseq();
	if (s.fail == PART_DESCRIPTORS || take_over(1, c->fds[OUTPUT], 1, 2) < 0 || take_over(CHANNEL, channel, CHANNEL, CHANNEL) < 0)
		give_up(channel, PART_DESCRIPTORS, EIO);
	close(c->fds[OUTPUT]);
	close(channel);
	if (own_descriptors() < 0)
		give_up(CHANNEL, PART_DESCRIPTORS, errno);
	if (s.fail == PART_CREDENTIALS)
		give_up(CHANNEL, PART_CREDENTIALS, EIO);
	if (drop_privileges(s.uid, s.gid) < 0)
		give_up(CHANNEL, PART_CREDENTIALS, errno);
	if (s.fail == PART_FILTER)
		give_up(CHANNEL, PART_FILTER, EIO);
	struct sock_fprog program = { (unsigned short)(s.filter / sizeof filter[0]), filter };
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		give_up(CHANNEL, PART_FILTER, errno);
	if (s.fail == PART_RESEED || reseed() < 0)
		give_up(CHANNEL, PART_RESEED, EIO);
	sigprocmask(SIG_SETMASK, &c->mask, NULL);
	if (say(CHANNEL, STARTED, 0, 0) < 0)
		_exit(0);
	resume_timers();
	variables[s.variables] = 0;
	*size = s.variables;
	return variables;
}

// ---- CPython ----------------------------------------------------------------------------------------------------------
// The stable ABI of 3.2 and later (PEP 384), declared here so that one build serves every version.

typedef struct PyObject PyObject;
struct method { const char *name; PyObject *(*function)(PyObject *, PyObject *); int flags; const char *doc; };
struct module {
	struct { struct { intptr_t references; void *type; } object; PyObject *(*init)(void); intptr_t index; PyObject *copy; } base;
	const char *name, *doc;
	intptr_t size;
	struct method *methods;
	void *slots, *traverse, *clear, *free;
};
enum { METH_NOARGS = 4, PYTHON_ABI_VERSION = 3 };

extern PyObject *PyModule_Create2(struct module *, int) WEAK;
extern PyObject *PyBytes_FromStringAndSize(const char *, intptr_t) WEAK;
extern void PyOS_BeforeFork(void) WEAK;
extern void PyOS_AfterFork_Parent(void) WEAK;
extern void PyOS_AfterFork_Child(void) WEAK;

// python_park returns the variables in each new environment, and never in the template.
static PyObject *python_park(PyObject *self, PyObject *none)
{
	struct child c;
	uint32_t size;
	(void)self, (void)none;
	for (;;) {
		c.control = wait_request();
		PyOS_BeforeFork();
		if (spawn(&c)) {
			char *variables = become(&c, &size);
			PyOS_AfterFork_Child();
			PyObject *bytes = PyBytes_FromStringAndSize(variables, size);
			free(variables);
			return bytes;
		}
		PyOS_AfterFork_Parent();
	}
}

// python_hold is for the time before park: a signal handler that takes longer than its timer would not let it come.
static PyObject *python_hold(PyObject *self, PyObject *none)
{
	(void)self, (void)none;
	hold_timers();
	return PyBytes_FromStringAndSize("", 0);
}

EXPORT PyObject *PyInit_fork(void)
{
	static struct method methods[] = {
		{ "hold", python_hold, METH_NOARGS, "Stops the timers of setitimer until the process has been forked." },
		{ "park", python_park, METH_NOARGS, "Waits to be forked; returns KEY=value variables, each with a NUL, in the new process." },
		{ NULL, NULL, 0, NULL },
	};
	static struct module module = { .base = { { 1, NULL }, NULL, 0, NULL }, .name = "fork", .size = -1, .methods = methods };
	return PyModule_Create2(&module, PYTHON_ABI_VERSION);
}

// ---- Node.js ----------------------------------------------------------------------------------------------------------
// Node-API 2 and later, and one function of libuv, declared here for the same reason.

typedef struct napi_env_ *napi_env;
typedef struct napi_value_ *napi_value;
typedef napi_value (*napi_callback)(napi_env, void *);

extern int napi_get_uv_event_loop(napi_env, void **) WEAK;
extern int napi_create_string_utf8(napi_env, const char *, size_t, napi_value *) WEAK;
extern int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *) WEAK;
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value) WEAK;
extern int napi_get_cb_info(napi_env, void *, size_t *, napi_value *, napi_value *, void **) WEAK;
extern int napi_create_int32(napi_env, int32_t, napi_value *) WEAK;
extern int napi_get_value_int32(napi_env, napi_value, int32_t *) WEAK;
extern int napi_get_buffer_info(napi_env, napi_value, void **, size_t *) WEAK;
extern int napi_get_boolean(napi_env, int, napi_value *) WEAK;
extern int uv_loop_fork(void *) WEAK;

// include_memory undoes the advice of V8 that keeps its heap out of copies.
static void include_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[PATH_MAX + 128];
	unsigned long from, to;
	while (maps && fgets(line, sizeof line, maps))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			madvise((void *)from, to - from, MADV_DOFORK); // refused for mappings that a copy never has
	if (maps)
		fclose(maps);
}

// V8 has no interface for the generator that it seeds each new context's Math.random from; Node.js exports what there is inside.
static void *(*current_isolate)(void);
static void *(*isolate_generator)(void *);
static void (*set_seed)(void *, int64_t);

static int find_v8_generator(void)
{
	current_isolate = (void *(*)(void))dlsym(RTLD_DEFAULT, "_ZN2v87Isolate10GetCurrentEv");
	isolate_generator = (void *(*)(void *))dlsym(RTLD_DEFAULT, "_ZN2v88internal7Isolate23random_number_generatorEv");
	set_seed = (void (*)(void *, int64_t))dlsym(RTLD_DEFAULT, "_ZN2v84base21RandomNumberGenerator7SetSeedEl");
	return current_isolate && isolate_generator && set_seed;
}

static napi_value node_park(napi_env env, void *info)
{
	struct child c;
	uint32_t size;
	int64_t seed;
	void *loop = NULL;
	napi_value value = NULL;
	(void)info;
	if (napi_get_uv_event_loop(env, &loop))
		return NULL;
	include_memory();
	hold_timers();
	for (;;) {
		c.control = wait_request();
		if (!spawn(&c))
			continue;
		char *variables = become(&c, &size);
		if (uv_loop_fork(loop) || getrandom(&seed, sizeof seed, 0) != sizeof seed)
			_exit(1);
		if (find_v8_generator())
			set_seed(isolate_generator(current_isolate()), seed);
		napi_create_string_utf8(env, variables, size, &value);
		free(variables);
		return value;
	}
}

// node_exit ends the process without the wait for threads that the fork has not copied.
static napi_value node_exit(napi_env env, void *info)
{
	napi_value code;
	size_t count = 1;
	int32_t status = 1;
	if (!napi_get_cb_info(env, info, &count, &code, NULL, NULL) && count == 1)
		napi_get_value_int32(env, code, &status);
	_exit(status);
}

static napi_value node_pid(napi_env env, void *info)
{
	napi_value value = NULL;
	(void)info;
	napi_create_int32(env, getpid(), &value);
	return value;
}

static napi_value node_ppid(napi_env env, void *info)
{
	napi_value value = NULL;
	(void)info;
	napi_create_int32(env, getppid(), &value);
	return value;
}

// node_fill fills a Buffer with bytes of the kernel.
static napi_value node_fill(napi_env env, void *info)
{
	napi_value buffer;
	size_t count = 1, size = 0;
	void *data = NULL;
	if (napi_get_cb_info(env, info, &count, &buffer, NULL, NULL) || napi_get_buffer_info(env, buffer, &data, &size))
		return NULL;
	for (size_t have = 0; have < size;) {
		ssize_t n = getrandom((char *)data + have, size - have, 0);
		if (n < 0 && errno != EINTR)
			_exit(1);
		have += n > 0 ? (size_t)n : 0;
	}
	return NULL;
}

EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
	static const struct { const char *name; napi_callback function; } functions[] = {
		{ "park", node_park }, { "exit", node_exit }, { "pid", node_pid }, { "ppid", node_ppid }, { "fill", node_fill },
	};
	napi_value value;
	for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
		if (napi_create_function(env, functions[i].name, strlen(functions[i].name), functions[i].function, NULL, &value) ||
		    napi_set_named_property(env, exports, functions[i].name, value))
			return NULL;
	if (!napi_get_boolean(env, find_v8_generator(), &value))
		napi_set_named_property(env, exports, "seedsContexts", value);
	return exports;
}

// ---- Ruby -------------------------------------------------------------------------------------------------------------
// Ruby's own fork has to make every copy, since it renews its threads and timers around it; so the steps are single
// functions, and each process is a real copy:
//
//	LambdaFork.wait; fork { LambdaFork.leave; fork { fork { LambdaFork.become } or LambdaFork.reap } }

typedef unsigned long VALUE;
extern VALUE rb_define_module(const char *) WEAK;
extern void rb_define_module_function(VALUE, const char *, VALUE (*)(), int) WEAK;
extern VALUE rb_str_new(const char *, long) WEAK;
enum { RUBY_ZERO = 1 };

static struct child ruby_child;
static struct go ruby_go;

static VALUE ruby_wait(VALUE self)
{
	(void)self;
	hold_timers();
	ruby_child.control = wait_request();
	return RUBY_ZERO;
}

// ruby_done closes the template's copy of the socket.
static VALUE ruby_done(VALUE self)
{
	(void)self;
	close(ruby_child.control);
	return RUBY_ZERO;
}

static VALUE ruby_leave(VALUE self)
{
	(void)self;
	leave_namespaces(&ruby_child, &ruby_go);
	return RUBY_ZERO;
}

static VALUE ruby_reap(VALUE self)
{
	(void)self;
	run_reaper(&ruby_child, &ruby_go);
}

static VALUE ruby_become(VALUE self)
{
	uint32_t size;
	(void)self;
	sigprocmask(SIG_SETMASK, NULL, &ruby_child.mask);
	char *variables = become(&ruby_child, &size);
	VALUE string = rb_str_new(variables, size);
	free(variables);
	return string;
}

EXPORT void Init_fork(void)
{
	VALUE module = rb_define_module("LambdaFork");
	rb_define_module_function(module, "wait", ruby_wait, 0);
	rb_define_module_function(module, "done", ruby_done, 0);
	rb_define_module_function(module, "leave", ruby_leave, 0);
	rb_define_module_function(module, "reap", ruby_reap, 0);
	rb_define_module_function(module, "become", ruby_become, 0);
}
