// Package thaw is the vocabulary of the platform: functions, versions, invocations, phases, start kinds, names, ARNs
// and error codes. It knows nothing of how any of them is stored, sent or run; every other package imports it and it
// imports none of them. Words are AWS Lambda's own where AWS has one.
package thaw

import "time"

// Latest is the qualifier and version number of a function's unpublished code.
const Latest = "$LATEST"

// Function is one Lambda function: what its versions share, and its unpublished version. Values handed out by the
// catalog are shared and must not be changed; change a copy through the store.
type Function struct {
	// Name is unique within the platform's account and region.
	Name string `json:"name"`
	// Config is what the control API shows and changes: the newest accepted configuration of $LATEST.
	Config Version `json:"config"`
	// Running is what invocations use: the newest configuration whose update has ended in success. It is nil until
	// the function has become Active once, and equals Config except while an update is in progress or has failed. It is
	// not in force while its state is Inactive, or Pending after that.
	Running *Version `json:"running,omitempty"`
	// Tags are the function's own, not a version's.
	Tags map[string]string `json:"tags,omitempty"`
	// Policies holds the resource-based policy of the function ("" as key) and of each qualifier.
	Policies map[string]Policy `json:"policies,omitempty"`
	// Published holds the published versions, by ascending number. Of a published version only the state changes.
	Published []Version `json:"published,omitempty"`
	// LastNumber is the highest number that a version of this function was ever published with.
	LastNumber int `json:"last_number,omitempty"`
	// Aliases by name.
	Aliases map[string]Alias `json:"aliases,omitempty"`
	// Reserved is the function's reserved concurrency: its limit, and what nobody else can use. Nil: none. 0 stops it.
	Reserved *int `json:"reserved,omitempty"`
	// Provisioned holds provisioned concurrency by qualifier: a version's number or an alias's name.
	Provisioned map[string]Provisioned `json:"provisioned,omitempty"`
	// EventInvoke holds the asynchronous configuration by qualifier, Latest included.
	EventInvoke map[string]EventInvoke `json:"event_invoke,omitempty"`
	// RecursiveLoop is what happens to the function's recursive invocations: RecursionTerminate, which empty stands for,
	// or RecursionAllow.
	RecursiveLoop string `json:"recursive_loop,omitempty"`
	// UpdateRuntimeOn is the runtime management setting by version number: Auto, which none stands for, FunctionUpdate or
	// Manual.
	UpdateRuntimeOn map[string]string `json:"update_runtime_on,omitempty"`
}

// Version is the configuration and code of one function version, as a whole: an environment that was made for it
// serves no other.
type Version struct {
	Function     string            `json:"function"`
	Number       string            `json:"number"` // Latest, or a decimal number from 1
	Description  string            `json:"description,omitempty"`
	Runtime      string            `json:"runtime"` // AWS's identifier: python3.11, nodejs20.x, provided.al2023
	Handler      string            `json:"handler,omitempty"`
	Role         string            `json:"role"`
	Architecture string            `json:"architecture"`      // x86_64 or arm64
	Timeout      int               `json:"timeout"`           // seconds, 1 to 900
	MemorySize   int               `json:"memory_size"`       // MB, 128 to 10,240
	TmpSize      int               `json:"ephemeral_storage"` // MB of /tmp, 512 to 10,240
	Environment  map[string]string `json:"environment,omitempty"`
	LogGroup     string            `json:"log_group,omitempty"`    // empty: /aws/lambda/NAME
	LogFormat    string            `json:"log_format,omitempty"`   // Text, which empty stands for, or LogFormatJSON
	LogLevel     string            `json:"log_level,omitempty"`    // ApplicationLogLevel, TRACE to FATAL; with LogFormatJSON only
	SystemLevel  string            `json:"system_level,omitempty"` // SystemLogLevel: DEBUG, INFO or WARN; with LogFormatJSON only
	TracingMode  string            `json:"tracing_mode"`           // PassThrough or TracingActive
	SnapStart    string            `json:"snap_start,omitempty"`   // SnapStart.ApplyOn: None, which empty stands for, or SnapStartPublished
	DeadLetter   string            `json:"dead_letter,omitempty"`  // DeadLetterConfig's TargetArn: an SQS queue; empty: none
	Code         Code              `json:"code"`
	Layers       []Layer           `json:"layers,omitempty"` // at /opt, the later over the earlier; MaxLayers at most
	// LatestDescription is what $LATEST was described as when the version was published with a description of its own;
	// nil when it was not.
	LatestDescription *string `json:"latest_description,omitempty"`

	State            State        `json:"state"`
	StateReason      string       `json:"state_reason,omitempty"`
	StateReasonCode  string       `json:"state_reason_code,omitempty"`
	LastUpdate       UpdateStatus `json:"last_update_status,omitempty"` // empty while the function is being created
	LastUpdateReason string       `json:"last_update_reason,omitempty"`
	LastUpdateCode   string       `json:"last_update_reason_code,omitempty"`
	LastModified     time.Time    `json:"last_modified"`
	RevisionID       string       `json:"revision_id"`
	// Generation changes with each accepted change of code or configuration and is never used twice for one name, not
	// even by a function that was deleted and created again. Environments are kept per generation, so that an old one
	// is never handed out for a new one. NextGeneration makes it.
	Generation uint64 `json:"generation"`
}

// LogFormatJSON is the LogFormat, in the Lambda API, of a log of JSON objects.
const LogFormatJSON = "JSON"

// LogsJSON reports whether the platform's lines in the version's log are JSON objects, and levels decide what the log takes.
func (v *Version) LogsJSON() bool { return v.LogFormat == LogFormatJSON }

// SnapStartPublished is the value of SnapStart's ApplyOn member, in the Lambda API, that sets SnapStart.
const SnapStartPublished = "PublishedVersions"

// TracingActive is the tracing mode of functions whose invocations are sampled although no caller asked for it.
const TracingActive = "Active"

// SnapStarted reports whether SnapStart is set. It changes how the version's environments are reported and what they are
// told of their type; whether they are forked does not depend on it.
func (v *Version) SnapStarted() bool { return v.SnapStart == SnapStartPublished }

// NextGeneration gives the generation that follows previous, zero for a new function: the time in microseconds, or
// previous + 1 where the clock has gone back.
func NextGeneration(previous uint64, now time.Time) uint64 {
	return max(previous+1, uint64(now.UnixMicro()))
}

// Code names a deployment package in the store.
type Code struct {
	// SHA256 is the package's digest as AWS shows it: standard base64.
	SHA256 string `json:"sha256"`
	// Size is the package's own size in bytes, packed.
	Size int64 `json:"size"`
	// Unzipped is what its files take, bytes; 0: not known.
	Unzipped int64 `json:"unzipped,omitempty"`
}

// State is a function's State member in the Lambda API.
type State string

// The states that this platform uses, after the Lambda API's State enumeration.
const (
	StatePending  State = "Pending"
	StateActive   State = "Active"
	StateInactive State = "Inactive" // idle for so long that nothing is kept ready; the next invocation brings it back
	StateFailed   State = "Failed"
)

// UpdateStatus is a function's LastUpdateStatus member in the Lambda API.
type UpdateStatus string

// The values of the Lambda API's LastUpdateStatus enumeration.
const (
	UpdateInProgress UpdateStatus = "InProgress"
	UpdateSuccessful UpdateStatus = "Successful"
	UpdateFailed     UpdateStatus = "Failed"
)

// Policy is a resource-based policy: its statements in the order in which they were added.
type Policy struct {
	Statements []Statement `json:"statements"`
	RevisionID string      `json:"revision_id"`
}

// Statement is one statement of a resource-based policy, made by AddPermission.
type Statement struct {
	SID string `json:"sid"`
	// Document is the statement as GetPolicy shows it: one JSON object.
	Document string `json:"document"`
}

// Account says where this platform pretends to be: what ARNs and STS answer.
type Account struct {
	ID     string // 12 digits
	Region string
}
