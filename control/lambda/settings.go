package lambda

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/control/internal/operation"
)

// Bounds of an on-demand function, after the Lambda quotas page. The model's own are wider or absent.
const (
	maxTimeout = 900   // seconds
	minMemory  = 128   // MB
	maxMemory  = 10240 // MB
	minTmp     = 512   // MB
	maxTmp     = 10240 // MB
)

var rolePattern = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$`)

// checkRole looks at the form only. Whether the role exists is not asked: thaw enforces no IAM policy, and people who
// run functions on their own machine pass names that they made up.
func checkRole(role *string) error {
	if !rolePattern.MatchString(operation.Value(role)) {
		return thaw.Errorf(thaw.CodeValidation, `1 validation error detected: Value '%s' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`, operation.Value(role))
	}
	return nil
}

// setNumbers takes the numbers that the request carries into v.
func setNumbers(v *thaw.Version, timeout, memory *int32, tmp *types.EphemeralStorage) error {
	if timeout != nil {
		if err := checkRange("timeout", *timeout, 1, maxTimeout); err != nil {
			return err
		}
		v.Timeout = int(*timeout)
	}
	if memory != nil {
		if err := checkRange("memorySize", *memory, minMemory, maxMemory); err != nil {
			return err
		}
		v.MemorySize = int(*memory)
	}
	if tmp != nil && tmp.Size != nil {
		if err := checkRange("ephemeralStorage.size", *tmp.Size, minTmp, maxTmp); err != nil {
			return err
		}
		v.TmpSize = int(*tmp.Size)
	}
	return nil
}

func checkRange(member string, n, low, high int32) error {
	relation, bound := "less", high
	if n < low {
		relation, bound = "greater", low
	} else if n <= high {
		return nil
	}
	return thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value %s than or equal to %d", n, member, relation, bound)
}

// reserved are the environment variables that a function may not set, after Lambda's page on environment variables.
var reserved = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
	"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API",
	"AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
}

// setEnvironment replaces v's variables by those of e; a nil e leaves them.
func setEnvironment(v *thaw.Version, e *types.Environment) error {
	if e == nil {
		return nil
	}
	var taken []string
	for key, val := range e.Variables {
		if slices.Contains(reserved, key) {
			taken = append(taken, key)
		}
		if strings.ContainsRune(val, 0) || strings.ContainsAny(key, "=\x00") {
			return invalid("Environment variable %q cannot be set: a name must not contain '=' and neither name nor value a NUL character.", key)
		}
	}
	if len(taken) > 0 {
		slices.Sort(taken)
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(taken, ", "))
	}
	if measured := measure(e.Variables); len(measured) > thaw.MaxEnvironment {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s", measured)
	}
	v.Environment = nil
	if len(e.Variables) > 0 {
		v.Environment = e.Variables
	}
	return nil
}

// measure is the text whose length AWS compares with the limit: the variables as compact JSON.
func measure(variables map[string]string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(variables) //nolint:errcheck // a map of strings always encodes
	return strings.TrimSuffix(b.String(), "\n")
}

// setTracing takes the tracing mode; a nil t, or one without a mode, leaves what v has.
func (a *API) setTracing(v *thaw.Version, t *types.TracingConfig) error {
	if t == nil || t.Mode == "" {
		return nil
	}
	if t.Mode == types.TracingModeActive && !a.cfg.Traces {
		return refused("TracingConfig", "there is nowhere to send traces to; set Mode to PassThrough, or traces.endpoint in thaw's configuration")
	}
	v.TracingMode = string(t.Mode)
	return nil
}

// setDeadLetter takes where events go that were not dealt with; a nil d leaves what v has, and an empty ARN takes it away.
func (a *API) setDeadLetter(v *thaw.Version, d *types.DeadLetterConfig) error {
	if d == nil {
		return nil
	}
	arn := operation.Value(d.TargetArn)
	if strings.HasPrefix(arn, "arn:aws:sns:") {
		return refused("DeadLetterConfig with an SNS topic", "there are no topics; set TargetArn to an SQS queue of this platform")
	}
	if arn != "" {
		if why := a.checkQueue(arn); why != "" {
			return invalid("The dead-letter queue %s cannot be used: %s.", arn, why)
		}
	}
	v.DeadLetter = arn
	return nil
}

// checkQueue says why an ARN is not one of a queue that outcomes can be sent to; empty: it is.
func (a *API) checkQueue(arn string) string {
	ref, ok := thaw.ParseQueueARN(arn)
	switch {
	case !ok:
		return "it is not the ARN of an SQS queue"
	case !a.cfg.Account.OwnsQueue(ref):
		return "it is of another account or region, and outcomes are sent to queues of this platform only"
	case strings.HasSuffix(ref.Name, ".fifo"):
		return "it is a FIFO queue, and outcomes are sent to standard queues only"
	case a.cfg.HasQueue != nil && !a.cfg.HasQueue(ref.Name):
		return "there is no such queue; create it first"
	}
	return ""
}

// setLogging takes the log group, the format and the levels; members that are left out keep what v has. A change to Text takes
// the levels away.
func setLogging(v *thaw.Version, l *types.LoggingConfig) error {
	if l == nil {
		return nil
	}
	if l.LogGroup != nil {
		v.LogGroup = *l.LogGroup
		if v.LogGroup == "/aws/lambda/"+v.Function {
			v.LogGroup = ""
		}
	}
	switch l.LogFormat {
	case "":
	case types.LogFormatJson:
		v.LogFormat = thaw.LogFormatJSON
	default:
		v.LogFormat, v.LogLevel, v.SystemLevel = "", "", ""
	}
	if !v.LogsJSON() {
		if l.ApplicationLogLevel != "" || l.SystemLogLevel != "" {
			return invalid("LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change the LogFormat to \"Json\" and try again.")
		}
		return nil
	}
	v.LogLevel = cmp.Or(string(l.ApplicationLogLevel), v.LogLevel, string(types.ApplicationLogLevelInfo))
	v.SystemLevel = cmp.Or(string(l.SystemLogLevel), v.SystemLevel, string(types.SystemLogLevelInfo))
	return nil
}

// logging is how LoggingConfig is shown.
func logging(v *thaw.Version) *types.LoggingConfig {
	l := &types.LoggingConfig{LogFormat: types.LogFormatText, LogGroup: operation.Optional(v.LogGroupName())}
	if v.LogsJSON() {
		l.LogFormat = types.LogFormatJson
		l.ApplicationLogLevel, l.SystemLogLevel = types.ApplicationLogLevel(v.LogLevel), types.SystemLogLevel(v.SystemLevel)
	}
	return l
}

// setSnapStart takes when SnapStart applies. The model admits no other values than these two.
func setSnapStart(v *thaw.Version, s *types.SnapStart) {
	if s == nil || s.ApplyOn == "" {
		return
	}
	v.SnapStart = ""
	if s.ApplyOn == types.SnapStartApplyOnPublishedVersions {
		v.SnapStart = thaw.SnapStartPublished
	}
}
