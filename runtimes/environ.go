package runtimes

import (
	"crypto/rand"
	"maps"
	"slices"
	"strconv"
	"strings"

	"thaw"
)

// reserved holds the variables that a function's configuration may not set, after AWS's developer guide ("Defined
// runtime environment variables").
var reserved = map[string]bool{
	"_HANDLER":                        true,
	"_X_AMZN_TRACE_ID":                true,
	"AWS_DEFAULT_REGION":              true,
	"AWS_REGION":                      true,
	"AWS_EXECUTION_ENV":               true,
	"AWS_LAMBDA_FUNCTION_NAME":        true,
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": true,
	"AWS_LAMBDA_FUNCTION_VERSION":     true,
	"AWS_LAMBDA_INITIALIZATION_TYPE":  true,
	"AWS_LAMBDA_LOG_GROUP_NAME":       true,
	"AWS_LAMBDA_LOG_STREAM_NAME":      true,
	"AWS_LAMBDA_MAX_CONCURRENCY":      true,
	"AWS_ACCESS_KEY":                  true,
	"AWS_ACCESS_KEY_ID":               true,
	"AWS_SECRET_ACCESS_KEY":           true,
	"AWS_SESSION_TOKEN":               true,
	"AWS_LAMBDA_RUNTIME_API":          true,
	"LAMBDA_TASK_ROOT":                true,
	"LAMBDA_RUNTIME_DIR":              true,
}

// Reserved reports whether AWS keeps the environment variable for itself: the control API refuses a configuration that
// sets it, and Environ never lets one through.
func Reserved(name string) bool { return reserved[name] }

// Environ is the whole environment of a runtime: AWS's variables, then runtimeEnv (Launch.Env), then the function's own
// on top, except for the reserved ones. provisioned is for an environment of the version's provisioned concurrency. Each call makes new placeholder credentials. AWS_LAMBDA_RUNTIME_API is for
// whoever opens that listener to add. The result has the form KEY=value, sorted by key.
func Environ(v *thaw.Version, account thaw.Account, logStream string, provisioned bool, runtimeEnv ...string) []string {
	env := map[string]string{
		"LANG":                     "en_US.UTF-8",
		"TZ":                       ":UTC",
		"PATH":                     "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LD_LIBRARY_PATH":          "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"PWD":                      TaskRoot,
		"SHLVL":                    "0",
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
	}
	set := func(pairs []string) {
		for _, pair := range pairs {
			if key, value, ok := strings.Cut(pair, "="); ok {
				env[key] = value
			}
		}
	}
	set(runtimeEnv)
	for key, value := range v.Environment {
		if !Reserved(key) {
			env[key] = value
		}
	}
	set([]string{
		"_HANDLER=" + v.Handler,
		"AWS_REGION=" + account.Region,
		"AWS_DEFAULT_REGION=" + account.Region,
		"AWS_EXECUTION_ENV=AWS_Lambda_" + v.Runtime,
		"AWS_LAMBDA_FUNCTION_NAME=" + v.Function,
		"AWS_LAMBDA_FUNCTION_VERSION=" + v.Number,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=" + strconv.Itoa(v.MemorySize),
		"AWS_LAMBDA_INITIALIZATION_TYPE=" + InitializationType(v, provisioned),
		"AWS_LAMBDA_LOG_GROUP_NAME=" + v.LogGroupName(),
		"AWS_LAMBDA_LOG_STREAM_NAME=" + logStream,
		"LAMBDA_TASK_ROOT=" + TaskRoot,
		"LAMBDA_RUNTIME_DIR=" + RuntimeDir,
		// Credentials that AWS's clients accept and that open nothing: ASIA marks temporary ones.
		"AWS_ACCESS_KEY_ID=ASIA" + rand.Text()[:16],
		"AWS_SECRET_ACCESS_KEY=" + (rand.Text() + rand.Text())[:40],
		"AWS_SESSION_TOKEN=" + rand.Text() + rand.Text(),
	})
	if v.LogsJSON() {
		set([]string{"AWS_LAMBDA_LOG_FORMAT=" + v.LogFormat, "AWS_LAMBDA_LOG_LEVEL=" + v.LogLevel})
	}
	out := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		out = append(out, key+"="+env[key])
	}
	return out
}

// InitializationType is what a version's environments learn of how they start. The environment that a template is made of
// gets the same as its forks, but for those that are provisioned concurrency.
func InitializationType(v *thaw.Version, provisioned bool) string {
	if provisioned {
		return "provisioned-concurrency"
	}
	if v.SnapStarted() {
		return "snap-start"
	}
	return "on-demand"
}
