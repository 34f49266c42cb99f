// The first process of a function's own in a sandbox with external extensions: it starts them and then the runtime, each
// when the host says so, passes on what the extensions write, and tells how each process ended.
//
//	host (runtimes/extensions)             this program
//	 |<-- connects to AWS_LAMBDA_RUNTIME_API --|
//	 |-- 'x' index, length, name ------------->|  start /opt/extensions/NAME
//	 |-- 'r' 255 ----------------------------->|  start the runtime: what follows the program's own name in its arguments
//	 |-- 't' 255 ----------------------------->|  SIGTERM to the runtime
//	 |-- 'k' index --------------------------->|  SIGKILL to a process and its group
//	 |<-- 'o' index, length (2 bytes), text ---|  what an extension wrote
//	 |<-- 'f' index, errno (4 bytes) ----------|  it could not be started
//	 |<-- 'e' index, wait status (4 bytes) ----|  it has ended
//
// Numbers are big-endian. It runs with the rights of the function, like all that it starts: what it tells is the
// function's word. When the host goes away it exits, and pid 1 ends what is left.
//
// There is no libc, so that it costs a handful of pages. All memory is static.

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

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

static void quit(void) __attribute__((noreturn));
static void quit(void)
{
	for (;;)
		SYS(exit_group, 1, 0, 0, 0, 0);
}

enum {
	MAX_EXTENSIONS = 10, // AWS's bound
	RUNTIME = 255,
	CHANNEL = 3,
	MAX_ENV = 4096,
	CHUNK = 4096,
	SIGKILL_ = 9,
	SIGTERM_ = 15,
	SIGCHLD_ = 17,
};

static struct {
	long pid; // 0: none
	int out;  // read end of its output, -1: none
} extensions[MAX_EXTENSIONS];

static long runtime;
static int host, signals, channel;
static char **arguments, **environment;
static char *extension_environment[MAX_ENV + 1];

// What AWS keeps from extensions (Lambda developer guide, "Lambda Extensions API", permissions and configuration).
static const char *const runtime_only[] = {
	"AWS_EXECUTION_ENV=", "AWS_LAMBDA_LOG_GROUP_NAME=", "AWS_LAMBDA_LOG_STREAM_NAME=", "AWS_XRAY_CONTEXT_MISSING=",
	"AWS_XRAY_DAEMON_ADDRESS=", "LAMBDA_RUNTIME_DIR=", "LAMBDA_TASK_ROOT=", "_AWS_XRAY_DAEMON_ADDRESS=", "_AWS_XRAY_DAEMON_PORT=",
	"_HANDLER=",
};

static int begins(const char *s, const char *with)
{
	for (; *with; s++, with++)
		if (*s != *with)
			return 0;
	return 1;
}

static void write_all(const void *data, long n)
{
	const u8 *at = data;
	while (n > 0) {
		long wrote = SYS(write, host, at, n, 0, 0);
		if (wrote == -EINTR)
			continue;
		if (wrote <= 0)
			quit();
		at += wrote;
		n -= wrote;
	}
}

static void read_all(void *data, long n)
{
	u8 *at = data;
	while (n > 0) {
		long got = SYS(read, host, at, n, 0, 0);
		if (got == -EINTR)
			continue;
		if (got <= 0)
			quit();
		at += got;
		n -= got;
	}
}

static void tell(u8 kind, int index, u32 value)
{
	u8 frame[6] = { kind, (u8)index, (u8)(value >> 24), (u8)(value >> 16), (u8)(value >> 8), (u8)value };
	write_all(frame, sizeof frame);
}

// relay passes on what an extension wrote, at most chunks times CHUNK bytes.
static void relay(int index, int chunks)
{
	static u8 frame[4 + CHUNK];
	while (extensions[index].out >= 0 && chunks-- > 0) {
		long n = SYS(read, extensions[index].out, frame + 4, CHUNK, 0, 0);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			SYS(close, extensions[index].out, 0, 0, 0, 0);
			extensions[index].out = -1;
			return;
		}
		frame[0] = 'o';
		frame[1] = (u8)index;
		frame[2] = (u8)(n >> 8);
		frame[3] = (u8)n;
		write_all(frame, 4 + n);
	}
}

// start makes a process that runs path. out is what becomes its output, -1: this program's own. It gives the pid, or the
// negative errno.
static long start(const char *path, char **argv, char **envp, int out)
{
	int result[2], failed = 0;
	long err, pid;
	if ((err = SYS(pipe2, result, O_CLOEXEC, 0, 0, 0)) < 0)
		return err;
	if ((pid = SYS(clone, SIGCHLD_, 0, 0, 0, 0)) == 0) {
		u64 none = 0;
		int told = (int)SYS(fcntl, result[1], F_DUPFD_CLOEXEC, 32, 0, 0);
		SYS(setsid, 0, 0, 0, 0, 0);
		SYS(rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, sizeof none, 0);
		if (out >= 0) {
			SYS(dup3, out, 1, 0, 0, 0);
			SYS(dup3, out, 2, 0, 0, 0);
			SYS(chdir, "/", 0, 0, 0, 0);
		}
		SYS(close_range, out < 0 && channel ? CHANNEL + 1 : CHANNEL, ~0U, CLOSE_RANGE_CLOEXEC, 0, 0);
		failed = (int)-SYS(execve, path, argv, envp, 0, 0);
		SYS(write, told, &failed, sizeof failed, 0, 0);
		quit();
	}
	SYS(close, result[1], 0, 0, 0, 0);
	// End of file: the exec closed the pipe.
	if (pid > 0 && SYS(read, result[0], &failed, sizeof failed, 0, 0) == sizeof failed) {
		SYS(wait4, pid, 0, 0, 0, 0);
		pid = -failed;
	}
	SYS(close, result[0], 0, 0, 0, 0);
	return pid;
}

static void start_extension(int index)
{
	static char path[16 + 256] = "/opt/extensions/";
	u8 length;
	int pipe[2];
	long pid;
	read_all(&length, 1);
	read_all(path + 16, length);
	path[16 + length] = 0;
	if (index >= MAX_EXTENSIONS || extensions[index].pid)
		quit();
	if ((pid = SYS(pipe2, pipe, O_CLOEXEC, 0, 0, 0)) >= 0) {
		char *argv[] = { path, 0 };
		pid = start(path, argv, extension_environment, pipe[1]);
		SYS(close, pipe[1], 0, 0, 0, 0);
		if (pid < 0)
			SYS(close, pipe[0], 0, 0, 0, 0);
	}
	if (pid < 0) {
		tell('f', index, (u32)-pid);
		return;
	}
	SYS(fcntl, pipe[0], F_SETFL, O_NONBLOCK, 0, 0);
	extensions[index].pid = pid;
	extensions[index].out = pipe[0];
}

static void start_runtime(void)
{
	long pid;
	if (runtime)
		quit();
	if ((pid = start(arguments[0], arguments, environment, -1)) < 0) {
		tell('f', RUNTIME, (u32)-pid);
		return;
	}
	runtime = pid;
	// The host sees the runtime's end by the end of the channel.
	if (channel)
		SYS(close, CHANNEL, 0, 0, 0, 0);
}

static void obey(void)
{
	u8 command[2];
	long pid;
	read_all(command, sizeof command);
	pid = command[1] == RUNTIME ? runtime : command[1] < MAX_EXTENSIONS ? extensions[command[1]].pid : 0;
	switch (command[0]) {
	case 'x':
		start_extension(command[1]);
		break;
	case 'r':
		start_runtime();
		break;
	case 't':
		if (pid > 0)
			SYS(kill, pid, SIGTERM_, 0, 0, 0);
		break;
	case 'k':
		if (pid > 0)
			SYS(kill, -pid, SIGKILL_, 0, 0, 0);
		break;
	default:
		quit();
	}
}

// reap tells of each process that has ended.
static void reap(void)
{
	int status;
	long pid;
	while ((pid = SYS(wait4, -1, &status, 1 /* WNOHANG */, 0, 0)) > 0) {
		if (pid == runtime) {
			runtime = -1;
			tell('e', RUNTIME, (u32)status);
			continue;
		}
		for (int i = 0; i < MAX_EXTENSIONS; i++)
			if (extensions[i].pid == pid) {
				relay(i, 16);
				extensions[i].pid = -1;
				tell('e', i, (u32)status);
			}
	}
}

// dial connects to the host's listener, whose address is 127.0.0.1:PORT, and says what comes over the connection.
static void dial(const char *address)
{
	static const char hello[] = "POST /thaw/launcher HTTP/1.1\r\nHost: launcher\r\nContent-Length: 0\r\n\r\n";
	struct { u16 family; u8 port[2]; u8 addr[4]; u8 zero[8]; } in = { 2, { 0, 0 }, { 127, 0, 0, 1 }, { 0 } };
	u32 port = 0;
	while (*address && *address != ':')
		address++;
	while (*address && *++address)
		port = port * 10 + (u32)(*address - '0');
	in.port[0] = (u8)(port >> 8);
	in.port[1] = (u8)port;
	long fd = SYS(socket, 2 /* AF_INET */, 1 /* SOCK_STREAM */ | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		quit();
	// Out of the way of the descriptors that are the runtime's.
	host = (int)SYS(fcntl, fd, F_DUPFD_CLOEXEC, 16, 0, 0);
	SYS(close, fd, 0, 0, 0, 0);
	if (host < 0 || SYS(connect, host, &in, sizeof in, 0, 0) < 0)
		quit();
	write_all(hello, sizeof hello - 1);
}

__attribute__((used)) static void begin(long *stack)
{
	u64 chld = 1UL << (SIGCHLD_ - 1);
	char *address = 0;
	int kept = 0;
	arguments = (char **)(stack + 2);
	environment = (char **)(stack + 1) + stack[0] + 1;
	if (stack[0] < 2)
		quit();
	for (char **e = environment; *e; e++) {
		int withheld = 0;
		if (begins(*e, "AWS_LAMBDA_RUNTIME_API="))
			address = *e + sizeof "AWS_LAMBDA_RUNTIME_API=" - 1;
		for (unsigned i = 0; i < sizeof runtime_only / sizeof runtime_only[0]; i++)
			withheld |= begins(*e, runtime_only[i]);
		if (!withheld && kept < MAX_ENV)
			extension_environment[kept++] = *e;
	}
	if (!address)
		quit();
	for (int i = 0; i < MAX_EXTENSIONS; i++)
		extensions[i].out = -1;
	channel = SYS(fcntl, CHANNEL, F_GETFD, 0, 0, 0) >= 0;
	dial(address);
	SYS(rt_sigprocmask, 0 /* SIG_BLOCK */, &chld, 0, sizeof chld, 0);
	if ((signals = (int)SYS(signalfd4, -1, &chld, sizeof chld, O_CLOEXEC, 0)) < 0)
		quit();
	for (;;) {
		struct { int fd; short events, revents; } p[2 + MAX_EXTENSIONS];
		static u8 info[128];
		reap();
		p[0].fd = host;
		p[1].fd = signals;
		for (int i = 0; i < MAX_EXTENSIONS; i++)
			p[2 + i].fd = extensions[i].out;
		for (int i = 0; i < 2 + MAX_EXTENSIONS; i++) {
			p[i].events = 1; // POLLIN
			p[i].revents = 0;
		}
		if (SYS(ppoll, p, 2 + MAX_EXTENSIONS, 0, 0, 0) < 0)
			continue;
		if (p[1].revents)
			SYS(read, signals, info, sizeof info, 0, 0);
		for (int i = 0; i < MAX_EXTENSIONS; i++)
			if (p[2 + i].revents)
				relay(i, 1);
		if (p[0].revents)
			obey();
	}
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall begin\n");
#else
__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tbl begin\n");
#endif
