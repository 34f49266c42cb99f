// Package linux is the sandbox.Driver of the default tier: Linux namespaces, cgroups (v1 and v2), seccomp, no
// capabilities. It is not a container runtime: it knows no images, and every sandbox looks the same but for what its
// sandbox.Spec mounts.
//
// A sandbox is made in two halves. The first needs nothing of the request and is done ahead, in a pool: cgroup, pid 1
// (native/init.c) in its own pid, mount, ipc, uts and cgroup namespaces, the root file system. The second is Start:
//
//	Start                                 steps
//	 ├ take a spare, or make one          cgroup spawn attach isolate root limits
//	 ├ network namespace, listener        network listen
//	 ├ memory bound, pipe, socketpair     memory pipes
//	 └ one message to pid 1               join mounts pivot | clone maps drop credentials filter exec
//
// States of a sandbox: spare → running ⇄ frozen → ended → closed. Whoever fails on the way ends at closed.
//
// Who owns what matters to the isolation. Pid 1 is made with the host's privilege, so the mount, pid, ipc and network
// namespaces belong to the host's user namespace (or, for a host that is not root, to one made for pid 1). The runtime
// process is cloned into a further user namespace that owns nothing, in which one id is mapped: even a process that
// gained every capability there could not use one on its mounts, its network or its cgroup. Pid 1 gives up its
// privileges before the runtime process is let go.
//
// A template (template.go) is a sandbox whose runtime process is forked from. That process is in the host's user namespace, as
// a host user without capabilities, since the id maps of what it forks can be written from there alone; its filter allows
// unshare with exactly the flags that forking takes, and neither mount nor setns. A forked environment (fork.go) makes its own
// user, pid, mount, ipc, uts and cgroup namespace; the host gives it ids, a cgroup, /proc, /tmp and /dev/shm from outside, by a
// helper process that enters its mount namespace, and looks at it before anything is handed to it. Its pid 1 is the
// same program as a booted sandbox's. The network namespace is the template's.
//
//	template   running → parked ⇄ forking → ended → closed → released (with its last environment)
//
// /tmp is in memory, but does not count against MemorySize: memory.go says how. A file system on disk per sandbox (a
// sparse image on a loop device) costs 4 ms, two kernel threads and a device for each; project quotas need kernel and
// mount options that few hosts have. A full /tmp answers ENOSPC.
//
// Lock order: template.mu, then Driver.mu, then process.mu; forking.mu alone. None is held over a call that waits for
// another process, except that Freeze waits for the kernel to freeze, and forking.mu for the helper's one reply.
package linux
