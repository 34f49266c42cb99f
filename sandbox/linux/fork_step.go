package linux

// The steps of a fork, in order; see fork.go. Those from StepForkUnshare to StepForkExec happen in the template's
// intermediate and those from StepForkDescriptors to StepForkReseed in the new runtime; runtimes/native/fork.c counts them in
// the same order.
const (
	StepForkThaw        = numSteps + iota // thaw the template
	StepForkCgroup                        // host id, cgroup and its bounds
	StepForkNetwork                       // find the network namespace
	StepForkPipes                         // control socket, output pipe and channel
	StepForkFiles                         // /tmp and /dev/shm with copies of the template's files
	StepForkRequest                       // tell the template
	StepForkHere                          // hear from the intermediate
	StepForkAttach                        // move it into the cgroup
	StepForkMaps                          // id maps
	StepForkGo                            // let it go on, with the descriptors
	StepForkReaper                        // hear from pid 1
	StepForkWatch                         // pid 1 gives up its privileges
	StepForkMounts                        // mount /proc, /tmp and /dev/shm
	StepForkStart                         // let the runtime go on
	StepForkVerify                        // look whether it has no privilege left
	StepForkUnshare                       // leave the template's namespaces
	StepForkClone                         // pid 1 and the runtime
	StepForkExec                          // pid 1's program
	StepForkDescriptors                   // the runtime's own output, channel and files
	StepForkCredentials                   // it gives up its privileges
	StepForkFilter                        // system call filter
	StepForkReseed                        // OpenSSL's generator
	endForkSteps
)

var forkStepNames = [endForkSteps - numSteps]string{"thaw", "cgroup", "network", "pipes", "files", "request", "here", "attach", "maps", "go",
	"reaper", "watch", "mounts", "start", "verify", "unshare", "clone", "exec", "descriptors", "credentials", "filter", "reseed"}
